"""Multi-scale deformable attention (Zhu et al., ICLR 2021) as a module."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import joined
from .api import deformable_attention


@dataclass(frozen=True)
class DeformableTarget:
    """Where queries look: their reference points and the levels of the feature they look at.

    Args:
        reference_points (Tensor): Query centres as (x, y) in [0, 1], ``(Q, 2)``.
        shapes (tuple): Height and width of each level.
    """

    reference_points: Tensor
    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def between(
        cls,
        query_shapes: tuple[tuple[int, int], ...],
        feature_shapes: tuple[tuple[int, int], ...],
        device: torch.device,
    ) -> DeformableTarget:
        """Queries at the cell centres of ``query_shapes``, looking at ``feature_shapes``."""
        centres = [_cell_centres(height, width, device) for height, width in query_shapes]
        return cls(torch.cat(centres), feature_shapes)


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention.

    Args:
        dim (int): Channels of queries and features.
        n_levels (int): Number of feature levels. Default: 4.
        n_heads (int): Number of heads; must divide ``int(dim * ratio)``. Default: 8.
        n_points (int): Sampling points per head and level. Default: 4.
        ratio (float): Channels of the values over ``dim``. Default: 1.

    Raises:
        ValueError: If ``n_heads`` does not divide the channels of the values.
    """

    def __init__(
        self, dim: int, n_levels: int = 4, n_heads: int = 8, n_points: int = 4, ratio: float = 1.0
    ) -> None:
        super().__init__()
        value_dim = int(dim * ratio)
        if n_heads < 1 or value_dim % n_heads:
            raise ValueError(
                'deform_num_heads must divide int(embed_dim * deform_ratio) = '
                f'{value_dim}, got {n_heads}'
            )
        self.n_levels = n_levels
        self.n_heads = n_heads
        self.n_points = n_points
        self.sampling_offsets = nn.Linear(dim, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(dim, n_heads * n_levels * n_points)
        self.value_proj = nn.Linear(dim, value_dim)
        self.output_proj = nn.Linear(value_dim, dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Heads look in evenly spread directions, one cell further with each point."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().max(dim=-1, keepdim=True).values
        steps = torch.arange(1, self.n_points + 1, dtype=torch.float32)
        offsets = directions[:, None, None, :] * steps[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.n_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def joined_parts(self) -> tuple[tuple[nn.Linear, nn.Linear]]:
        """Projections that are one product."""
        return ((self.sampling_offsets, self.attention_weights),)

    def forward(self, query: Tensor, feature: Tensor, target: DeformableTarget) -> Tensor:
        """Attend.

        Args:
            query (Tensor): ``(B, Q, C)``.
            feature (Tensor): The levels, flattened and concatenated, ``(B, S, C)``.
            target (DeformableTarget): Reference points and level shapes.

        Returns:
            Tensor: ``(B, Q, C)``.
        """
        value = self.value_proj(feature).unflatten(-1, (self.n_heads, -1))
        # One product: what both read is by far larger than their weights.
        (parts,) = self.joined_parts()
        weight, bias = joined([p.weight for p in parts]), joined([p.bias for p in parts])
        projections = F.linear(query, weight, bias)
        out = deformable_attention(value, projections, target.reference_points, target.shapes)
        return self.output_proj(out.flatten(2))


def _cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Centres of the cells of a grid as (x, y) in [0, 1], ``(height * width, 2)`` float32."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)
