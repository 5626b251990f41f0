"""K-Medoids of the tokens: Marin et al., Token Pooling in Vision Transformers (WACV 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_atc.arguments import check_counts

from .base import AttentionTokenMerger
from .centers import best_of_each, directions, highest, nearest_center
from .registry import TOKEN_MERGERS


@TOKEN_MERGERS.register_module()
class KMedoidsMerging(AttentionTokenMerger):
    """Alternates between the nearest medoid of each token and the best medoid of each cluster.

    The tokens that receive most attention are the first medoids. A cluster's medoid is its member
    of lowest summed distance to the members, each weighted by the attention that it receives.
    Distance is 1 - cosine of the keys: half the squared Euclidean distance of normalised keys.

    Args:
        keep_rate (float | Sequence[float]): Share of the tokens that stays at a merge, in (0, 1];
            one for all merge blocks or one per merge block. Default: 0.5.
        num_iterations (int): How often medoids are chosen anew; 0 keeps the tokens of most
            attention. Default: 5.

    Raises:
        ValueError: If ``keep_rate`` or ``num_iterations`` is out of range.
    """

    def __init__(self, keep_rate: float | Sequence[float] = 0.5, num_iterations: int = 5) -> None:
        super().__init__(keep_rate)
        check_counts(0, num_iterations=num_iterations)
        self.num_iterations = num_iterations

    @torch.no_grad()
    def assign(self, keys: Tensor, num_clusters: int, attention: Tensor | None = None) -> Tensor:
        attention = self._checked(attention)
        with torch.autocast(keys.device.type, enabled=False):
            units = directions(keys)
            medoids = highest(attention, num_clusters)
            labels = nearest_center(units, medoids)
            weighted = units * attention.to(units.dtype).unsqueeze(-1)
            for _ in range(self.num_iterations):
                # sum_j w_j (1 - u_i . u_j) is lowest where u_i . sum_j w_j u_j is highest.
                index = labels.unsqueeze(-1).expand_as(units)
                sums = units.new_zeros(len(units), num_clusters, units.shape[-1])
                sums.scatter_add_(1, index, weighted)
                fit = (units * sums.gather(1, index)).sum(-1)
                medoids = best_of_each(fit, labels, num_clusters).sort(dim=1).values
                labels = nearest_center(units, medoids)
        return labels
