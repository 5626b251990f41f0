"""What this package compiles and finds out once per machine: C++ called through ctypes, Triton."""

from .build import load_library
from .cache import cache_folder
from .kernels import can_run_triton

__all__ = ['cache_folder', 'can_run_triton', 'load_library']
