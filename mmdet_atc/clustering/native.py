"""The C++ engine: compiled once per machine, called through ctypes (which releases the GIL)."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name('csrc') / 'linkage.cpp'
#: Minima are vectorised only where no NaN and no signed zero can be; sums keep their order.
_FLAGS = (
    *('-O3', '-march=native', '-std=c++17', '-shared', '-fPIC', '-pthread'),
    *(
        '-fno-strict-aliasing',
        '-ffinite-math-only',
        '-fno-signed-zeros',
        '-fno-trapping-math',
        '-fno-math-errno',
    ),
)
_LINKAGES = dict(single=0, complete=1, average=2)


def is_available() -> bool:
    """Whether the engine is compiled or can be; warns once where it cannot."""
    return _library() is not None


def cluster_in_place(distances: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch on the CPU, one image per thread; the distances are overwritten.

    Args:
        distances (Tensor): ``(B, N, N)``, symmetric, finite, contiguous, float32 or float64, CPU.
        num_clusters (int): Clusters per image.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    library = _library()
    assert library is not None
    assert distances.is_contiguous()
    batch, num_tokens, _ = distances.shape
    labels = torch.empty(batch, num_tokens, dtype=torch.int64)
    is_float = distances.dtype == torch.float32
    function = library.atc_linkage_float if is_float else library.atc_linkage_double
    function(
        ctypes.c_void_p(distances.data_ptr()),
        ctypes.c_int64(batch),
        ctypes.c_int64(num_tokens),
        ctypes.c_int64(num_clusters),
        ctypes.c_int(_LINKAGES[linkage]),
        ctypes.c_int(torch.get_num_threads()),
        ctypes.c_void_p(labels.data_ptr()),
    )
    return labels


@functools.cache
def _library() -> ctypes.CDLL | None:
    compiler = os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++')
    if compiler is None:
        warnings.warn(
            'no C++ compiler (g++, clang++ or $CXX): clustering on the CPU falls back to SciPy, '
            'which is several times slower; Debian: apt install g++',
            stacklevel=4,
        )
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, 'stderr', None) or error
        warnings.warn(
            f'compiling the clustering engine with {compiler} failed, clustering on the CPU falls '
            f'back to SciPy, which is several times slower: {detail}',
            stacklevel=4,
        )
        return None


def _compiled(compiler: str) -> Path:
    """Path of the shared library, compiled if this machine has none of this source yet."""
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmdet_atc'
    root = Path(os.environ.get('MMDET_ATC_CACHE') or root)
    # Native code of another processor must not be taken from a shared home folder.
    version = subprocess.run([compiler, '--version'], check=True, capture_output=True).stdout
    parts = (_SOURCE.read_bytes(), version, repr(_FLAGS).encode(), _processor().encode())
    name = hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]
    path = root / 'clustering' / f'linkage-{name}.so'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may compile at once: each its own file, moved into place whole.
        handle, partial = tempfile.mkstemp(suffix='.so', dir=path.parent)
        os.close(handle)
        try:
            command = [compiler, *_FLAGS, str(_SOURCE), '-o', partial]
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
