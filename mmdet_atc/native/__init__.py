"""What this package compiles and finds out once per machine: C++ called through ctypes."""

from .build import NotCompiledError, compiled_library, is_refused, load_library
from .cache import cache_folder

__all__ = ['NotCompiledError', 'cache_folder', 'compiled_library', 'is_refused', 'load_library']
