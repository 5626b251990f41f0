"""Top-K pruning, the baseline of Haurum et al. (Which Tokens to Use?, ICCVW 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import AttentionTokenMerger
from .centers import best_of_each, directions, highest, nearest_center
from .registry import TOKEN_MERGERS


@TOKEN_MERGERS.register_module()
class TopKMerging(AttentionTokenMerger):
    """Keeps the tokens that receive most attention and prunes the others.

    Classifiers drop pruned tokens for good. A detector needs the full grid back: a pruned token is
    labelled with the kept token of the most similar key and gets its features in back-projection,
    but does not contribute to them: kept tokens stay as they are, of size one, and proportional
    attention changes nothing.

    Args:
        keep_rate (float | Sequence[float]): Share of the tokens that stays at a merge, in (0, 1];
            one for all merge blocks or one per merge block. Default: 0.5.

    Raises:
        ValueError: If a keep rate is not in (0, 1].
    """

    @torch.no_grad()
    def assign(self, keys: Tensor, num_clusters: int, attention: Tensor | None = None) -> Tensor:
        attention = self._checked(attention)
        with torch.autocast(keys.device.type, enabled=False):
            return nearest_center(directions(keys), highest(attention, num_clusters))

    def weights(self, labels: Tensor, num_clusters: int, attention: Tensor | None) -> Tensor:
        attention = self._checked(attention)
        # A cluster has one kept token, and no pruned one has more attention.
        kept = best_of_each(attention, labels, num_clusters)
        return torch.zeros_like(attention).scatter_(1, kept, 1)
