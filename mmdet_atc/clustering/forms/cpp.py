"""C++ on the host (``csrc/``), with all threads of torch."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmdet_atc.native import NotCompiledError, compiled_library, is_refused

_FOLDER = Path(__file__).with_name('csrc')
#: Distances are defined by operations that are rounded one by one.
_FLAGS = ('-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math')
_LINKAGES = dict(single=0, complete=1, average=2)


@dataclass(frozen=True)
class LimitRule:
    """The guess of the last merge's height that near pairs are selected by.

    Of the tokens' distances to their nearest, the quantile ``1 - keep_rate ** power + margin``,
    times ``stretch``. A wrong guess costs time only. ``tools/misc/tune_near.py`` measures it.
    """

    power: float
    margin: float
    stretch: float

    def quantile(self, keep_rate: float) -> float:
        return min(max(1 - keep_rate**self.power + self.margin, 0.0), 1.0)


LIMIT_RULES = dict(
    single=LimitRule(power=1.2, margin=0.03, stretch=1.03),
    complete=LimitRule(power=2.5, margin=0.03, stretch=1.03),
    average=LimitRule(power=2.0, margin=0.03, stretch=1.03),
)


class _Wanted(ctypes.Structure):
    _fields_ = (
        ('num_clusters', ctypes.c_int64),
        ('linkage', ctypes.c_int),
        ('quantile', ctypes.c_double),
        ('stretch', ctypes.c_double),
        ('threads', ctypes.c_int64),
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
    return _cluster(features, num_clusters, linkage)[0]


def near_pairs(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """What an image's clustering took, for measurements.

    Args:
        features (Tensor): As :func:`cluster_features`.
        num_clusters (int): As there.
        linkage (str): As there.

    Returns:
        Tensor: ``(B, 2)`` int64: pairs of tokens within the first limit, and clusters that were
        left when these were used up (``num_clusters`` where the limit was large enough).
    """
    return _cluster(features, num_clusters, linkage)[1]


def _cluster(features: Tensor, num_clusters: int, linkage: str) -> tuple[Tensor, Tensor]:
    batch, num_tokens, _ = features.shape
    values = features.to('cpu', torch.float64).contiguous()
    labels = torch.empty(batch, num_tokens, dtype=torch.int64)
    reports = torch.zeros(batch, 2, dtype=torch.int64)
    rule = LIMIT_RULES[linkage]
    wanted = _Wanted(
        num_clusters=num_clusters,
        linkage=_LINKAGES[linkage],
        quantile=rule.quantile(num_clusters / num_tokens),
        stretch=rule.stretch,
        threads=torch.get_num_threads(),
    )
    failed = _library().atc_cluster_features(
        ctypes.c_void_p(values.data_ptr()),
        *(ctypes.c_int64(size) for size in values.shape),
        ctypes.byref(wanted),
        ctypes.c_void_p(labels.data_ptr()),
        ctypes.c_void_p(reports.data_ptr()),
    )
    if failed:
        raise MemoryError(f'not enough memory to cluster {tuple(features.shape)}')
    return labels.to(features.device), reports


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    try:
        return compiled_library(_FOLDER, 'linkage', _FLAGS)
    except NotCompiledError as error:
        return str(error)
