"""Token Merging, ToMe (Bolya et al., ICLR 2023, section 3): bipartite soft matching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_atc.arguments import check_bools

from .base import TokenMerger
from .centers import directions
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
        if num_clusters == num_tokens:
            return positions.repeat(batch, 1)
        first = 1 if self.class_token else 0
        even, odd = slice(first, None, 2), slice(1 - first, None, 2)
        with torch.autocast(keys.device.type, enabled=False):
            units = directions(keys)
            similarity = units[:, even] @ units[:, odd].transpose(1, 2)
        # ToMe's order, which decides the next stage's bipartition.
        return _joined(
            similarity, positions[even], positions[odd], num_clusters, by_position=self.class_token
        )


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
    with torch.autocast(device.type, enabled=False):
        units = directions(features)
        similarity = units[:, sources] @ units[:, destinations].transpose(1, 2)
    return _joined(similarity, sources, destinations, num_clusters)


def _joined(
    similarity: Tensor,
    sources: Tensor,
    destinations: Tensor,
    num_clusters: int,
    by_position: bool = False,
) -> Tensor:
    """The sources of highest similarity to a destination join it.

    Args:
        similarity (Tensor): ``(B, S, D)``.
        sources (Tensor): Their positions, ``(S,)`` int64.
        destinations (Tensor): Likewise, ``(D,)``.
        num_clusters (int): From D to S + D.
        by_position (bool): Whether sources that stay keep their order, else they are sorted by
            falling similarity. Default: False.

    Returns:
        Tensor: Labels, ``(B, S + D)`` int64: first the sources that stay, then the destinations.
    """
    best, partner = similarity.max(dim=-1)
    num_kept = num_clusters - destinations.shape[0]
    order = best.argsort(dim=-1, descending=True, stable=True)
    merged, kept = order.split([sources.shape[0] - num_kept, num_kept], dim=1)
    if by_position:
        kept = kept.sort(dim=1).values
    labels = order.new_empty(order.shape[0], sources.shape[0] + destinations.shape[0])
    numbers = torch.arange(num_clusters, device=order.device)
    of_sources = torch.empty_like(order).scatter(1, kept, numbers[:num_kept].expand_as(kept))
    labels[:, sources] = of_sources.scatter(1, merged, num_kept + partner.gather(1, merged))
    labels[:, destinations] = numbers[num_kept:]
    return labels
