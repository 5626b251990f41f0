"""Density-peaks clustering with nearest neighbours, DPC-KNN.

Du et al., Knowledge-Based Systems 2016; for tokens Zeng et al. (TCFormer, CVPR 2022, section 3.2)
and Haurum et al. (Which Tokens to Use?, ICCVW 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet_atc.arguments import check_counts

from .base import TokenMerger
from .centers import directions, highest, nearest_center
from .registry import TOKEN_MERGERS


@TOKEN_MERGERS.register_module()
class DPCKNNMerging(TokenMerger):
    """Clusters around tokens that are dense, and far from all that are denser.

    With d the Euclidean distance of normalised keys and k the number of neighbours, a token has

    - the density ``exp(-mean of d² to its k nearest tokens)``, itself among them as in TCFormer;
    - the distance to the nearest denser token, for the densest the largest distance of the image.

    The tokens of highest density x distance are centres; each other token joins the nearest.
    TCFormer divides distances by the square root of the channels, which for its normalised tokens
    is what the unit length of the keys does here. In place of its random noise the first of
    equally dense tokens counts as denser. Needs the T x T distances of a batch in memory.

    Args:
        keep_rate (float | Sequence[float]): Share of the tokens that stays at a merge, in (0, 1];
            one for all merge blocks or one per merge block. Default: 0.5.
        num_neighbors (int): Neighbours k that make the density; all tokens where there are fewer.
            Default: 5.

    Raises:
        ValueError: If ``keep_rate`` or ``num_neighbors`` is out of range.
    """

    def __init__(self, keep_rate: float | Sequence[float] = 0.5, num_neighbors: int = 5) -> None:
        super().__init__(keep_rate)
        check_counts(num_neighbors=num_neighbors)
        self.num_neighbors = num_neighbors

    @torch.no_grad()
    def assign(self, keys: Tensor, num_clusters: int) -> Tensor:
        num_tokens = keys.shape[1]
        with torch.autocast(keys.device.type, enabled=False):
            units = directions(keys)
            squares = (2 - 2 * units @ units.transpose(1, 2)).clamp_(min=0)
            squares.diagonal(dim1=1, dim2=2).zero_()
            nearest = squares.topk(min(self.num_neighbors, num_tokens), dim=-1, largest=False)
            density = (-nearest.values.mean(dim=-1)).exp()
            largest = squares.amax(dim=(1, 2)).sqrt()
            squares.masked_fill_(~_denser(density), torch.inf)
            isolation = squares.amin(dim=-1).sqrt()
            isolation = torch.where(isolation.isinf(), largest.unsqueeze(1), isolation)
            return nearest_center(units, highest(density * isolation, num_clusters))


def _denser(density: Tensor) -> Tensor:
    """Whether token j is denser than token i, or as dense and before it: ``(B, T)`` to ijth."""
    other, own = density.unsqueeze(1), density.unsqueeze(2)
    position = torch.arange(density.shape[1], device=density.device)
    return (other > own) | ((other == own) & (position < position.unsqueeze(1)))
