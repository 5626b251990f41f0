"""Triton kernels: near pairs and rounds on the device, no N x N matrix and no wait of the host."""

from __future__ import annotations

import functools
import os

import torch
from torch import Tensor

from mmdet_atc.native import why_no_triton

#: ``0``: plain torch in the place of the kernels.
ENVIRONMENT = 'MMDET_ATC_TRITON'


def why_not(device: torch.device) -> str:
    """Why this form cannot run on a device; empty where it can."""
    if is_refused():
        return f'{ENVIRONMENT} is 0'
    return _why_not(device)


def is_refused() -> bool:
    """Whether the environment asks for plain torch."""
    return os.environ.get(ENVIRONMENT) == '0'


@functools.cache
def _why_not(device: torch.device) -> str:
    if torch.version.hip is not None:
        return 'the kernels are for CUDA, not for ROCm'
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f'{torch.cuda.get_device_name(device)} is older than compute capability 8.0'
    return why_no_triton()


def cluster_features(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by the distance of :mod:`mmdet_atc.clustering.distances`.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype, CUDA; a token that is not finite counts
            as zero.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    from .engine import cluster_features

    return cluster_features(features, num_clusters, linkage)
