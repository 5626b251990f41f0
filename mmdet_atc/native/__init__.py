"""What this package compiles and finds out once per machine: C++ called through ctypes, Triton."""

from .build import NotCompiledError, compiled_library, is_refused, load_library
from .cache import cache_folder
from .kernels import can_run_triton, why_no_triton
from .operators import operator

__all__ = [
    'NotCompiledError',
    'cache_folder',
    'can_run_triton',
    'compiled_library',
    'is_refused',
    'load_library',
    'operator',
    'why_no_triton',
]
