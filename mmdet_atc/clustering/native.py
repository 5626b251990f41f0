"""The C++ engine (``csrc/``)."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from mmdet_atc.native import load_library

_FOLDER = Path(__file__).with_name('forms') / 'csrc_old'
#: Minima are vectorised only where no NaN and no signed zero can be; sums keep their order.
_FLAGS = ('-ffinite-math-only', '-fno-signed-zeros', '-fno-trapping-math', '-fno-math-errno')
_LINKAGES = dict(single=0, complete=1, average=2)
#: The most near pairs of tokens, as a share of all pairs, that an image is clustered by. Where more
#: would be needed all distances are stored, which is as fast then, and takes as much memory.
NEAR_SHARE = dict(single=0.07, complete=0.14, average=0.12)


class _Wanted(ctypes.Structure):
    _fields_ = (
        ('num_clusters', ctypes.c_int64),
        ('linkage', ctypes.c_int),
        ('near_share', ctypes.c_double),
        ('threads', ctypes.c_int64),
    )


def is_available() -> bool:
    """Whether the engine is compiled or can be; warns once where it cannot."""
    return _library() is not None


def cluster_directions(directions: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by 1 - cosine on the CPU with all threads of torch.

    Args:
        directions (Tensor): ``(B, N, C)`` unit vectors, finite, float32 or float64, CPU.
        num_clusters (int): Clusters per image.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.

    Raises:
        MemoryError: If there is not enough memory.
    """
    return _cluster('directions', directions, directions.shape, num_clusters, linkage)


def cluster_squares(distances: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by given distances on the CPU with all threads of torch.

    Args:
        distances (Tensor): ``(B, N, N)``, float32 or float64, CPU, below the largest number of
            their type; with average linkage so must be their sums in float64. Only the part above
            the diagonal is read.
        num_clusters (int): Clusters per image.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.

    Raises:
        MemoryError: If there is not enough memory.
    """
    return _cluster('squares', distances, distances.shape[:2], num_clusters, linkage)


def upper_cosine_distances(directions: Tensor) -> Tensor:
    """The distances that :func:`cluster_directions` clusters by, to the last bit.

    Args:
        directions (Tensor): ``(B, N, C)`` unit vectors, float32 or float64, CPU.

    Returns:
        Tensor: ``(B, N, N)``, 1 - cosine above the diagonal, 0 elsewhere.

    Raises:
        MemoryError: If there is not enough memory.
    """
    batch, num_tokens, channels = directions.shape
    squares = directions.new_zeros(batch, num_tokens, num_tokens)
    _call(
        'cosine_distances',
        directions,
        *_sizes(batch, num_tokens, channels, torch.get_num_threads()),
        ctypes.c_void_p(squares.data_ptr()),
    )
    return squares


def _cluster(
    what: str, values: Tensor, sizes: tuple[int, ...], num_clusters: int, linkage: str
) -> Tensor:
    labels = torch.empty(values.shape[:2], dtype=torch.int64)
    share, threads = NEAR_SHARE[linkage], torch.get_num_threads()
    wanted = _Wanted(num_clusters, _LINKAGES[linkage], share, threads)
    pointer = ctypes.c_void_p(labels.data_ptr())
    _call(f'cluster_{what}', values, *_sizes(*sizes), ctypes.byref(wanted), pointer)
    return labels


def _sizes(*sizes: int) -> tuple[ctypes.c_int64, ...]:
    return tuple(ctypes.c_int64(size) for size in sizes)


def _call(function: str, values: Tensor, *arguments: object) -> None:
    values = values.contiguous()
    name = 'float' if values.dtype == torch.float32 else 'double'
    call = getattr(_library(), f'atc_{function}_{name}')
    if call(ctypes.c_void_p(values.data_ptr()), *arguments):
        raise MemoryError(f'not enough memory to cluster {tuple(values.shape)}')


@functools.cache
def _library() -> ctypes.CDLL | None:
    return load_library(_FOLDER, 'linkage', 'clustering', 'SciPy', _FLAGS)
