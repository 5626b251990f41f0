"""Multi-scale deformable attention (Zhu et al., ICLR 2021) on mmcv's operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .deformable_device import sample_on_device
from .deformable_sampling import sample_on_cpu


@dataclass(frozen=True)
class DeformableTarget:
    """Where queries look: their reference points and the levels of the feature they look at.

    Args:
        reference_points (Tensor): Query centres as (x, y) in [0, 1], ``(Q, 2)``.
        spatial_shapes (Tensor): Height and width of each level, ``(L, 2)`` int64.
        level_start_index (Tensor): First row of each level in the flattened feature, ``(L,)``.
        shapes (tuple): ``spatial_shapes`` as numbers, so that no value is read off a device.
    """

    reference_points: Tensor
    spatial_shapes: Tensor
    level_start_index: Tensor
    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def between(
        cls,
        query_shapes: tuple[tuple[int, int], ...],
        feature_shapes: tuple[tuple[int, int], ...],
        device: torch.device,
    ) -> DeformableTarget:
        """Queries at the cell centres of ``query_shapes``, looking at ``feature_shapes``."""
        starts = [0]
        for height, width in feature_shapes[:-1]:
            starts.append(starts[-1] + height * width)
        centres = [_cell_centres(height, width, device) for height, width in query_shapes]
        return cls(
            torch.cat(centres),
            torch.tensor(feature_shapes, device=device),
            torch.tensor(starts, device=device),
            feature_shapes,
        )


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

    def forward(self, query: Tensor, feature: Tensor, target: DeformableTarget) -> Tensor:
        """Attend.

        Args:
            query (Tensor): ``(B, Q, C)``.
            feature (Tensor): The levels, flattened and concatenated, ``(B, S, C)``.
            target (DeformableTarget): Reference points and level shapes.

        Returns:
            Tensor: ``(B, Q, C)``.
        """
        batch, num_queries, _ = query.shape
        heads, levels, points = self.n_heads, self.n_levels, self.n_points
        value = self.value_proj(feature).reshape(batch, feature.shape[1], heads, -1)
        offsets = self.sampling_offsets(query)
        logits = self.attention_weights(query)
        # Half precision cannot tell neighbouring cells of a wide feature map apart.
        with torch.autocast(query.device.type, enabled=False):
            full = torch.promote_types(query.dtype, torch.float32)
            offsets = offsets.to(full).reshape(batch, num_queries, heads, levels, points, 2)
            logits = logits.to(full).reshape(batch, num_queries, heads, levels * points)
            reference = target.reference_points.to(full)
            value = value.to(full)
            if value.is_cuda:
                # The cells' sizes are on the device: nothing is copied to it.
                cells = target.spatial_shapes.flip(-1).to(full)[:, None]
                locations = reference[:, None, None, None] + offsets / cells
                weights = logits.softmax(-1).reshape(offsets.shape[:-1])
                out = sample_on_device(
                    value.contiguous(),
                    target.spatial_shapes,
                    target.level_start_index,
                    locations.contiguous(),
                    weights.contiguous(),
                )
            else:
                out = sample_on_cpu(value, target.shapes, reference, offsets, logits)
        return self.output_proj(out.to(feature.dtype))


def _cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Centres of the cells of a grid as (x, y) in [0, 1], ``(height * width, 2)`` float32."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)
