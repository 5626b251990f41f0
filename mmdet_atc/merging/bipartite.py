"""Token Merging, ToMe (Bolya et al., ICLR 2023, section 3): bipartite soft matching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_atc.arguments import check_bools

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
        class_token (bool): Whether tokens are divided and ordered as in ToMe with a class token
            before them: it is at position 0, so that the first patch is at an odd position, and
            the even tokens that stay keep their order. Default: False.

    Raises:
        ValueError: If a keep rate is not in (0, 1], or another argument is no bool.
    """

    def __init__(self, keep_rate: float | Sequence[float] = 0.7, class_token: bool = False) -> None:
        super().__init__(keep_rate)
        check_bools(class_token=class_token)
        self.class_token = class_token

    def num_clusters(self, num_tokens: int, keep_rate: float) -> int:
        return max(super().num_clusters(num_tokens, keep_rate), num_tokens - num_tokens // 2)

    @torch.no_grad()
    def assign(self, keys: Tensor, num_clusters: int) -> Tensor:
        batch, num_tokens, _ = keys.shape
        positions = torch.arange(num_tokens, device=keys.device)
        first = 1 if self.class_token else 0
        even, odd = positions[first::2], positions[1 - first :: 2]
        num_merged = num_tokens - num_clusters
        num_kept = even.shape[0] - num_merged
        if num_merged == 0:
            return positions.repeat(batch, 1)
        with torch.autocast(keys.device.type, enabled=False):
            metric = F.normalize(keys.float(), dim=-1)
            similarity = metric[:, first::2] @ metric[:, 1 - first :: 2].transpose(1, 2)
        best, partner = similarity.max(dim=-1)
        merged, kept = best.argsort(dim=-1, descending=True, stable=True).split(
            [num_merged, num_kept], dim=1
        )
        # ToMe's order of the merged tokens, which decides the next stage's bipartition: the kept
        # even tokens by falling similarity (with a class token by position), then all odd tokens.
        if self.class_token:
            kept = kept.sort(dim=1).values
        labels = positions.repeat(batch, 1)
        labels_of_even = labels[:, : even.shape[0]].scatter(
            1, kept, positions[:num_kept].expand_as(kept)
        )
        labels_of_even.scatter_(1, merged, num_kept + partner.gather(1, merged))
        labels[:, even] = labels_of_even
        labels[:, odd] = num_kept + positions[: odd.shape[0]]
        return labels


@torch.no_grad()
def match_in_squares(features: Tensor, num_clusters: int, grid: tuple[int, int]) -> Tensor:
    """Bipartite matching of ToMe for Stable Diffusion (Bolya and Hoffman, CVPRW 2023).

    The upper left token of each 2 x 2 is a destination; of the others, the sources, those of
    highest cosine similarity to a destination join it.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype.
        num_clusters (int): From the number of destinations to N.
        grid (tuple[int, int]): Height and width of the N tokens.

    Returns:
        Tensor: ``(B, N)`` int64.
    """
    (height, width), device = grid, features.device
    positions = torch.arange(height * width, device=device)
    rows, cols = positions // width, positions % width
    # Tokens of an odd last row or column are in no 2 x 2.
    is_destination = (rows % 2 == 0) & (cols % 2 == 0)
    is_destination &= (rows < height // 2 * 2) & (cols < width // 2 * 2)
    destinations, sources = positions[is_destination], positions[~is_destination]
    num_merged = len(positions) - num_clusters
    with torch.autocast(device.type, enabled=False):
        metric = F.normalize(
            features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1
        )
        best, partner = (metric[:, sources] @ metric[:, destinations].transpose(1, 2)).max(dim=-1)
    merged, kept = best.argsort(dim=-1, descending=True, stable=True).split(
        [num_merged, len(sources) - num_merged], dim=1
    )
    labels = positions.repeat(len(features), 1)
    of_sources = labels[:, : len(sources)].scatter(1, kept, labels[:, : kept.shape[1]])
    of_sources = of_sources.scatter(1, merged, kept.shape[1] + partner.gather(1, merged))
    labels[:, sources] = of_sources
    labels[:, destinations] = kept.shape[1] + positions[: len(destinations)]
    return labels
