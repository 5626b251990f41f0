"""Deformable attention by ``grid_sample``, an operator that formats of other programs have too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_attention(
    value: Tensor, projections: Tensor, reference: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Weighted sum of bilinear samples per query and head; as :mod:`.plain`, in inference."""
    heads = value.shape[2]
    count = projections.shape[2] // 3 // heads  # of samples
    offsets, logits = projections.split([heads * count * 2, heads * count], dim=2)
    weights = logits.unflatten(2, (heads, count)).softmax(-1).unflatten(-1, (len(shapes), -1))
    offsets = offsets.unflatten(2, (heads, len(shapes), -1, 2))
    levels = value.split([height * width for height, width in shapes], dim=1)
    total: Tensor | None = None
    for index, (height, width) in enumerate(shapes):
        # From -1 to 1 over a level.
        x, y = (
            2 / side * offsets[:, :, :, index, :, axis] + (2 * reference[:, axis, None, None] - 1)
            for axis, side in enumerate((width, height))
        )
        grid = torch.stack([x, y], dim=-1).transpose(1, 2).flatten(0, 1)
        of_head = levels[index].permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, (height, width))
        found = F.grid_sample(of_head, grid, align_corners=False)  # (B * H, D, Q, P)
        share = weights[:, :, :, index].transpose(1, 2).flatten(0, 1).unsqueeze(1)
        summed = (found * share).sum(dim=3)
        total = summed if total is None else total + summed
    assert total is not None
    return total.unflatten(0, (-1, heads)).permute(0, 3, 1, 2)
