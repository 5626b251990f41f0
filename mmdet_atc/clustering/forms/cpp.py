"""C++ on the host (``csrc/``), with all threads of torch."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from mmdet_atc.native import load_library

_FOLDER = Path(__file__).with_name('csrc')
#: Distances are defined by operations that are rounded one by one.
_FLAGS = ('-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math')
_LINKAGES = dict(single=0, complete=1, average=2)


class _Wanted(ctypes.Structure):
    _fields_ = (
        ('num_clusters', ctypes.c_int64),
        ('linkage', ctypes.c_int),
        ('quantile', ctypes.c_double),
        ('stretch', ctypes.c_double),
        ('threads', ctypes.c_int64),
    )


def limit_rule(keep_rate: float, linkage: str) -> tuple[float, float]:
    p = dict(single=1.3, complete=2.5, average=2)[linkage]
    return min(1.0, 1 - keep_rate**p + 0.03), 1.03


def cluster_features(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    return report(features, num_clusters, linkage)[0]


def report(features: Tensor, num_clusters: int, linkage: str) -> tuple[Tensor, Tensor]:
    batch, num_tokens, channels = features.shape
    features = features.to('cpu', torch.float64).contiguous()
    labels = torch.empty(batch, num_tokens, dtype=torch.int64)
    reports = torch.zeros(batch, 2, dtype=torch.int64)
    quantile, stretch = limit_rule(num_clusters / num_tokens, linkage)
    wanted = _Wanted(num_clusters, _LINKAGES[linkage], quantile, stretch, torch.get_num_threads())
    failed = _library().atc_cluster_features(
        ctypes.c_void_p(features.data_ptr()),
        *(ctypes.c_int64(size) for size in features.shape),
        ctypes.byref(wanted),
        ctypes.c_void_p(labels.data_ptr()),
        ctypes.c_void_p(reports.data_ptr()),
    )
    if failed:
        raise MemoryError(f'not enough memory to cluster {tuple(features.shape)}')
    return labels, reports


@functools.cache
def _library() -> ctypes.CDLL | None:
    return load_library(_FOLDER, 'linkage', 'clustering', 'plain torch', _FLAGS)
