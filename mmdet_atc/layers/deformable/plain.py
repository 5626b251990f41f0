"""Deformable attention in plain torch (Zhu et al., ICLR 2021, equation 3): the specification."""

from __future__ import annotations

import torch
from torch import Tensor


def deformable_attention(
    value: Tensor, projections: Tensor, reference: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Weighted sum of bilinear samples per query and head.

    Differentiable in ``value`` and ``projections``. Everything between is in float32 or better:
    half precision cannot tell neighbouring cells of a wide feature map apart.

    Arguments and result as of :func:`mmdet_atc.layers.deformable_attention`.
    """
    heads = value.shape[2]
    full = torch.promote_types(value.dtype, torch.float32)
    count = projections.shape[2] // 3 // heads  # of samples
    offsets, logits = projections.to(full).split([heads * count * 2, heads * count], dim=2)
    weights = logits.unflatten(2, (heads, count)).softmax(-1).unflatten(-1, (len(shapes), -1))
    offsets = offsets.unflatten(2, (heads, len(shapes), -1, 2))
    centres = reference.to(full)[:, None, None]
    levels = value.split([height * width for height, width in shapes], dim=1)
    out = value.new_zeros(value.shape[0], reference.shape[0], *value.shape[2:], dtype=full)
    for index, (height, width) in enumerate(shapes):
        x = centres[..., 0] * width + offsets[:, :, :, index, :, 0] - 0.5  # (B, Q, H, P)
        y = centres[..., 1] * height + offsets[:, :, :, index, :, 1] - 0.5
        for column, share_x in _around(x):
            for row, share_y in _around(y):
                is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                cell = torch.where(is_inside, row * width + column, 0).long()
                share = share_x * share_y * weights[:, :, :, index]
                share = torch.where(is_inside, share, 0)
                for point in range(share.shape[-1]):
                    where = cell[..., point, None].expand(-1, -1, -1, value.shape[3])
                    found = levels[index].gather(1, where).to(full)
                    out = out + share[..., point, None] * found
    return out.to(value.dtype)


def _around(x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The cells to both sides of a position, and the share that each has in it."""
    cell = x.detach().floor()
    return (cell, 1 - (x - cell)), (cell + 1, x - cell)
