"""Agglomerative Token Clustering (Haurum et al., ECCV 2024, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_atc.arguments import check_choice
from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.api import BACKENDS, LINKAGES

from .base import TokenMerger
from .registry import TOKEN_MERGERS


@TOKEN_MERGERS.register_module()
class AgglomerativeMerging(TokenMerger):
    """Exact bottom-up hierarchical clustering of the tokens' keys in cosine distance.

    Keys with NaN or Inf are an error, but on a GPU not in training with autocast to float16,
    whatever ``MMDET_ATC_CHECK_FINITE`` says: there the loss scaler leaves out the step.

    Args:
        keep_rate (float | Sequence[float]): Share of the tokens that stays at a merge, in (0, 1];
            one for all merge blocks or one per merge block. Default: 0.5.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``. Default: ``'average'``.
        backend (str): Clustering backend, see
            :func:`mmdet_atc.clustering.agglomerative_clustering`. Default: ``'auto'``.

    Raises:
        ValueError: If ``keep_rate``, ``linkage`` or ``backend`` is not one of the above.
    """

    def __init__(
        self,
        keep_rate: float | Sequence[float] = 0.5,
        linkage: str = 'average',
        backend: str = 'auto',
    ) -> None:
        super().__init__(keep_rate)
        check_choice(LINKAGES, linkage=linkage)
        check_choice(BACKENDS, backend=backend)
        self.linkage = linkage
        self.backend = backend

    def assign(self, keys: Tensor, num_clusters: int) -> Tensor:
        check_finite = False if _is_loss_scaled(keys.device.type) else None
        return agglomerative_clustering(
            keys, num_clusters, self.linkage, self.backend, check_finite
        )


def _is_loss_scaled(device_type: str) -> bool:
    """Whether this is training in float16, where the loss scaler leaves out what overflows."""
    return (
        torch.is_grad_enabled()
        and torch.is_autocast_enabled(device_type)
        and torch.get_autocast_dtype(device_type) == torch.float16
    )
