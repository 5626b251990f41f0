"""C++ on the host (``csrc/``), with all threads of torch."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from mmdet_atc.native import NotCompiledError, compiled_library, is_refused

_FOLDER = Path(__file__).with_name('csrc')
#: Distances are defined by operations that are rounded one by one.
_FLAGS = ('-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math')
_LINKAGES = dict(single=0, complete=1, average=2)


class LimitRule(ctypes.Structure):
    """The guess of the last merge's height that near pairs are selected by.

    Of the tokens' distances to their nearest, the quantile ``1 - keep_rate ** power + margin``,
    times ``stretch``, where equal directions count once and zero vectors do not. A wrong guess
    costs time only; ``tools/misc/tune_near.py`` measures it.
    """

    _fields_ = (
        ('power', ctypes.c_double),
        ('margin', ctypes.c_double),
        ('stretch', ctypes.c_double),
    )

    def quantile(self, keep_rate: float) -> float:
        return min(max(1 - keep_rate**self.power + self.margin, 0.0), 1.0)


class _Wanted(ctypes.Structure):
    _fields_ = (
        ('num_clusters', ctypes.c_int64),
        ('linkage', ctypes.c_int),
        ('threads', ctypes.c_int64),
        ('lender', ctypes.c_void_p),  # null: the threads are the library's own
    )


def why_not() -> str:
    """Why this form cannot run here; empty where it can. Compiles it if need be."""
    if is_refused():
        return 'MMDET_ATC_NATIVE is 0'
    library = _library()
    return library if isinstance(library, str) else ''


def is_available() -> bool:
    """Whether this form can run here."""
    return not why_not()


def limit_rules() -> dict[str, LimitRule]:
    """The rule of each linkage, as the library has it: what is set here counts from now on."""
    library = _library()
    assert isinstance(library, ctypes.CDLL), library
    return dict(zip(_LINKAGES, (LimitRule * 3).in_dll(library, 'atc_limit_rules')))


def cluster_features(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by the distance of :mod:`mmdet_atc.clustering.distances`.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype, finite, any device.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.

    Returns:
        Tensor: ``(B, N)`` int64 on the device of the features, clusters numbered by their smallest
        member.

    Raises:
        MemoryError: If there is not enough memory.
    """
    labels = torch.empty(features.shape[:2], dtype=torch.int64)
    _call(features, num_clusters, linkage, labels)
    return labels.to(features.device)


def first_merges(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """The ``N - num_clusters`` first merges, in order.

    Args:
        features (Tensor): As :func:`cluster_features`.
        num_clusters (int): As there.
        linkage (str): As there.

    Returns:
        Tensor: ``(B, N - num_clusters, 3)`` int64, CPU: height, and the lower and the higher of the
        clusters' smallest members; for single linkage the two tokens of an edge.
    """
    batch, num_tokens, _ = features.shape
    labels = torch.empty(batch, num_tokens, dtype=torch.int64)
    merges = torch.empty(batch, num_tokens - num_clusters, 2, dtype=torch.int64)
    _call(features, num_clusters, linkage, labels, merges=merges)
    low, high = merges[..., 1:].contiguous().view(torch.int32).long().unbind(dim=-1)
    return torch.stack([merges[..., 0], low, high], dim=-1)


def near_pairs(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """What near pairs did, for measurements.

    Args:
        features (Tensor): As :func:`cluster_features`.
        num_clusters (int): As there.
        linkage (str): As there.

    Returns:
        Tensor: ``(B, 3)`` int64: limits that were tried, pairs of tokens within them, and clusters
        that were left when these were used up (``num_clusters`` where a limit was large enough).
    """
    labels = torch.empty(features.shape[:2], dtype=torch.int64)
    reports = torch.zeros(len(features), 3, dtype=torch.int64)
    _call(features, num_clusters, linkage, labels, reports=reports)
    return reports


def _call(
    features: Tensor,
    num_clusters: int,
    linkage: str,
    labels: Tensor,
    merges: Tensor | None = None,
    reports: Tensor | None = None,
) -> None:
    values = features.to('cpu', torch.float64).contiguous()
    wanted = _Wanted(
        num_clusters=num_clusters,
        linkage=_LINKAGES[linkage],
        threads=torch.get_num_threads(),
    )
    library = _library()
    assert isinstance(library, ctypes.CDLL), library
    failed = library.atc_cluster_features(
        ctypes.c_void_p(values.data_ptr()),
        *(ctypes.c_int64(size) for size in values.shape),
        ctypes.byref(wanted),
        *(x if x is None else ctypes.c_void_p(x.data_ptr()) for x in (labels, merges, reports)),
    )
    if failed:
        raise MemoryError(f'not enough memory to cluster {tuple(features.shape)}')


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    try:
        return compiled_library(_FOLDER, 'linkage', _FLAGS)
    except NotCompiledError as error:
        return str(error)
