"""EViT: Liang et al., Not All Patches are What You Need (ICLR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import AttentionTokenMerger
from .clusters import TokenClusters
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
        if beside is not None:  # the fused token is one of K: padding leaves no room for one more
            return super().merge_to(
                tokens,
                keys,
                clusters,
                num_clusters,
                attention=attention,
                beside=beside,
                size_weighted=size_weighted,
            )
        attention = self._checked(attention)
        labels = self.assign(keys, num_clusters + 1, attention)
        fused = attention.masked_fill(labels < num_clusters, 0)
        total = fused.sum(dim=1, keepdim=True).clamp(min=torch.finfo(fused.dtype).tiny)
        weights = torch.where(labels < num_clusters, 1, fused / total) / clusters.sizes
        merged, clusters = clusters.merge_tokens(tokens, labels, num_clusters + 1, weights)
        # The mean of the fused tokens becomes their sum.
        scale = torch.ones_like(clusters.sizes)
        scale[:, -1:] = total
        return merged * scale.unsqueeze(-1).to(merged.dtype), clusters
