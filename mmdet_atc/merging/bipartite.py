"""Token Merging, ToMe (Bolya et al., ICLR 2023, section 3): bipartite soft matching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import TokenMerger
from .registry import TOKEN_MERGERS


@TOKEN_MERGERS.register_module()
class BipartiteMerging(TokenMerger):
    """Merges the most similar tokens of an alternating bipartition, as ToMe does.

    Tokens at even positions each propose their most similar token at an odd position (cosine
    similarity of the keys); the proposals of highest similarity are carried out. One stage can
    remove at most the even half of the tokens.

    Args:
        keep_rate (float | Sequence[float]): Share of the tokens that stays at a merge, in (0, 1];
            one for all merge blocks or one per merge block. Below 0.5 the half of the tokens that
            can be removed at most is removed. Default: 0.7.

    Raises:
        ValueError: If a keep rate is not in (0, 1].
    """

    def __init__(self, keep_rate: float | Sequence[float] = 0.7) -> None:
        super().__init__(keep_rate)

    def num_clusters(self, num_tokens: int, keep_rate: float) -> int:
        return max(super().num_clusters(num_tokens, keep_rate), num_tokens - num_tokens // 2)

    @torch.no_grad()
    def assign(self, keys: Tensor, num_clusters: int) -> Tensor:
        batch, num_tokens, _ = keys.shape
        num_even, num_merged = (num_tokens + 1) // 2, num_tokens - num_clusters
        num_kept = num_even - num_merged
        with torch.autocast(keys.device.type, enabled=False):
            metric = F.normalize(keys.float(), dim=-1)
            similarity = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)
        labels = torch.arange(num_tokens, device=keys.device).repeat(batch, 1)
        if num_merged == 0:
            return labels
        best, partner = similarity.max(dim=-1)
        merged, kept = best.argsort(dim=-1, descending=True, stable=True).split(
            [num_merged, num_kept], dim=1
        )
        # ToMe's order of the merged tokens, which decides the next stage's bipartition: the kept
        # even tokens by falling similarity, then all odd tokens.
        even = labels[:, ::2].clone()
        even.scatter_(1, kept, labels[:, :num_kept])
        even.scatter_(1, merged, num_kept + partner.gather(1, merged))
        labels[:, 1::2] = num_kept + labels[:, : num_tokens - num_even]
        labels[:, ::2] = even
        return labels
