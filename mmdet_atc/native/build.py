"""Compiling the C++ sources and loading them with ctypes, whose calls release the GIL."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from .cache import cache_folder

#: ``0``: nothing is compiled or loaded, the plain forms are used.
ENVIRONMENT = 'MMDET_ATC_NATIVE'
_logger = logging.getLogger(__name__)
_INCLUDE = Path(__file__).with_name('include')
_FLAGS = (
    *('-O3', '-march=native', '-std=c++17', '-shared', '-fPIC', '-pthread'),
    *('-fno-strict-aliasing', f'-I{_INCLUDE}'),
)


class NotCompiledError(RuntimeError):
    """C++ that cannot be compiled here; the message says why."""


def load_library(folder: Path, name: str, purpose: str, fallback: str) -> ctypes.CDLL | None:
    """As :func:`compiled_library`, but None, after a warning, where there is none.

    Args:
        folder (Path): As there.
        name (str): As there.
        purpose (str): What the library does, for the warning.
        fallback (str): What is used without it, for the warning.

    Returns:
        CDLL | None: None without a warning where ``MMDET_ATC_NATIVE`` is 0.
    """
    try:
        return compiled_library(folder, name)
    except NotCompiledError as error:
        if not is_refused():
            warnings.warn(
                f'{error}: {purpose} on the CPU falls back to {fallback}, which is several times '
                'slower',
                stacklevel=4,
            )
        return None


def is_refused() -> bool:
    """Whether the environment's ``MMDET_ATC_NATIVE`` is 0: nothing is compiled or loaded."""
    value = os.environ.get(ENVIRONMENT, '1')
    if value not in ('0', '1'):
        raise ValueError(f'{ENVIRONMENT} must be 0, 1 or not set, got {value!r}')
    return value == '0'


def compiled_library(folder: Path, name: str, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Shared library of ``folder/name.cpp``, compiled if this machine has none of this source yet.

    Args:
        folder (Path): Folder of the source and all that it includes.
        name (str): The source, without ``.cpp``.
        flags (tuple[str, ...]): More flags of the compiler. Default: none.

    Returns:
        CDLL: The library.

    Raises:
        NotCompiledError: If it cannot be compiled, or ``MMDET_ATC_NATIVE`` is 0.
    """
    if is_refused():
        raise NotCompiledError(f'{ENVIRONMENT} is 0')
    compiler = shlex.split(os.environ.get('CXX') or '')
    compiler = compiler or [path for path in map(shutil.which, ('g++', 'clang++')) if path][:1]
    if not compiler:
        raise NotCompiledError('no C++ compiler (g++, clang++ or $CXX; Debian: apt install g++)')
    try:
        return ctypes.CDLL(str(_compiled(compiler, folder, name, flags)))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, 'stderr', None) or str(error)
        if isinstance(error, PermissionError) or getattr(error, 'errno', None) == errno.EROFS:
            detail += '; MMDET_ATC_CACHE names a folder that can be written'
        raise NotCompiledError(
            f'compiling with {shlex.join(compiler)} failed ({detail})'
        ) from error


def _compiled(compiler: list[str], folder: Path, name: str, flags: tuple[str, ...]) -> Path:
    # Native code of another processor must not be taken from a shared home folder.
    version = subprocess.run([*compiler, '--version'], check=True, capture_output=True).stdout
    files = [*sorted(folder.iterdir()), *sorted(_INCLUDE.iterdir())]
    sources = [file.read_bytes() for file in files if file.suffix in {'.cpp', '.hpp'}]
    # Not the folder of the headers: another clone's are the same.
    settings = (*_FLAGS[:-1], *flags)
    parts = (*sources, version, repr(settings).encode(), _processor().encode())
    digest = hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]
    path = cache_folder('native') / f'{name}-{digest}.so'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(path.parent):
            if not path.exists():
                _compile([*compiler, *_FLAGS, *flags, str(folder / f'{name}.cpp')], path)
    return path


def _compile(command: list[str], path: Path) -> None:
    _logger.warning('compiling %s for this processor, once: some seconds', path)
    # Moved into place whole: where locks do not work, several processes may be here at once.
    handle, partial = tempfile.mkstemp(suffix='.so', dir=path.parent)
    os.close(handle)
    try:
        subprocess.run([*command, '-o', partial], check=True, capture_output=True, text=True)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


@contextlib.contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    """The others wait; where the file system has no locks, nobody does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ('model name', 'flags', 'CPU part', 'Features')
    return '\n'.join(sorted({line for line in lines if line.startswith(wanted)}))
