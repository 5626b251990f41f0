"""Compiling the C++ sources and loading them with ctypes, whose calls release the GIL."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

from .cache import cache_folder

_INCLUDE = Path(__file__).with_name('include')
_FLAGS = (
    *('-O3', '-march=native', '-std=c++17', '-shared', '-fPIC', '-pthread'),
    *('-fno-strict-aliasing', f'-I{_INCLUDE}'),
)


def load_library(
    folder: Path, name: str, purpose: str, fallback: str, flags: tuple[str, ...] = ()
) -> ctypes.CDLL | None:
    """Shared library of ``folder/name.cpp``, compiled if this machine has none of this source yet.

    Args:
        folder (Path): Folder of the source and all that it includes.
        name (str): The source, without ``.cpp``.
        purpose (str): What the library does, for the warning.
        fallback (str): What is used without it, for the warning.
        flags (tuple[str, ...]): More flags of the compiler. Default: none.

    Returns:
        CDLL | None: None, after a warning, where it cannot be compiled.
    """
    compiler = os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++')
    falls_back = f'{purpose} on the CPU falls back to {fallback}, which is several times slower'
    if compiler is None:
        warnings.warn(
            f'no C++ compiler (g++, clang++ or $CXX): {falls_back}; Debian: apt install g++',
            stacklevel=4,
        )
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler, folder, name, flags)))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, 'stderr', None) or error
        warnings.warn(f'compiling with {compiler} failed: {falls_back}: {detail}', stacklevel=4)
        return None


def _compiled(compiler: str, folder: Path, name: str, flags: tuple[str, ...]) -> Path:
    # Native code of another processor must not be taken from a shared home folder.
    version = subprocess.run([compiler, '--version'], check=True, capture_output=True).stdout
    files = [*sorted(folder.iterdir()), *sorted(_INCLUDE.iterdir())]
    sources = [file.read_bytes() for file in files if file.suffix in {'.cpp', '.hpp'}]
    # Not the folder of the headers: another clone's are the same.
    settings = (*_FLAGS[:-1], *flags)
    parts = (*sources, version, repr(settings).encode(), _processor().encode())
    digest = hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]
    path = cache_folder('native') / f'{name}-{digest}.so'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may compile at once: each its own file, moved into place whole.
        handle, partial = tempfile.mkstemp(suffix='.so', dir=path.parent)
        os.close(handle)
        try:
            command = [compiler, *_FLAGS, *flags, str(folder / f'{name}.cpp'), '-o', partial]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    return path


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ('model name', 'flags', 'CPU part', 'Features')
    return '\n'.join(sorted({line for line in lines if line.startswith(wanted)}))
