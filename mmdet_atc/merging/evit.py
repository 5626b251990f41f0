"""EViT: Liang et al., Not All Patches are What You Need (ICLR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import AttentionTokenMerger
from .clusters import TokenClusters
from .padding import assign_beside_padding, clusters_of_pictures
from .registry import TOKEN_MERGERS


@TOKEN_MERGERS.register_module()
class EViTMerging(AttentionTokenMerger):
    """Keeps the tokens that receive most attention and fuses the others into one more.

    The fused token is the sum of the others' features, each times the attention that it receives;
    it stands last and is a candidate at the next stage. So one token more is left than are kept.
    Every token is of size one: proportional attention changes nothing.

    Args:
        keep_rate (float | Sequence[float]): Share of the tokens that stays at a merge, in (0, 1],
            beside the fused one; one for all merge blocks or one per merge block. Default: 0.5.

    Raises:
        ValueError: If a keep rate is not in (0, 1].
    """

    @torch.no_grad()
    def assign(self, keys: Tensor, num_clusters: int, attention: Tensor | None = None) -> Tensor:
        attention = self._checked(attention)
        order = attention.argsort(dim=1, descending=True, stable=True)
        ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, ranks.clamp(max=num_clusters - 1))

    def merge_to(
        self,
        tokens: Tensor,
        keys: Tensor,
        clusters: TokenClusters,
        num_clusters: int,
        *,
        attention: Tensor | None = None,
        beside: tuple[Tensor, Sequence[int]] | None = None,
        size_weighted: bool = True,
    ) -> tuple[Tensor, TokenClusters]:
        if num_clusters == tokens.shape[1]:
            return tokens, clusters
        attention = self._checked(attention)
        count = num_clusters + 1
        if beside is None:
            labels = self.assign(keys, count, attention)
            last = labels.new_full((labels.shape[0], 1), num_clusters)
        else:
            padding, kept = beside[0], [each + 1 for each in beside[1]]
            labels = assign_beside_padding(self, keys, count, padding, kept, attention)
            last = labels.new_tensor(clusters_of_pictures(padding, count, kept))[:, None] - 1
        fused = attention.masked_fill(labels != last, 0)
        total = fused.sum(dim=1, keepdim=True).clamp(min=torch.finfo(fused.dtype).tiny)
        weights = torch.where(labels == last, fused / total, 1) / clusters.sizes
        merged, clusters = clusters.merge_tokens(tokens, labels, count, weights)
        # The mean of the fused tokens becomes their sum.
        scale = torch.ones_like(clusters.sizes).scatter(1, last, total.to(clusters.sizes.dtype))
        return merged * scale.unsqueeze(-1).to(merged.dtype), clusters
