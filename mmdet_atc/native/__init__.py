"""What this package compiles and finds out once per machine: C++ called through ctypes."""

from .build import load_library
from .cache import cache_folder

__all__ = ['cache_folder', 'load_library']
