"""Position embeddings of grids other than the pretraining one."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resized_pos_embed(pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embedding of a grid, bicubic: ``F.interpolate`` as a product along each side.

    Args:
        pos_embed (Tensor): ``(1, 1 + side * side, C)``; the class token's comes first.
        grid (tuple[int, int]): Height and width in patches, N in number.

    Returns:
        Tensor: ``(1, N, C)``.
    """
    side = math.isqrt(int(pos_embed.shape[1]) - 1)
    full = torch.promote_types(pos_embed.dtype, torch.float32)
    rows, cols = (_interpolation(side, size, full, pos_embed.device) for size in grid)
    with torch.autocast(pos_embed.device.type, enabled=False):
        patches = pos_embed[0, 1:].to(full).unflatten(0, (side, side))
        resized = rows @ (cols @ patches).flatten(1)
    return resized.reshape(1, grid[0] * grid[1], -1).to(pos_embed.dtype)


def _interpolation(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What each of ``side`` values counts for in each of ``size``, ``(size, side)``."""
    if torch.compiler.is_compiling():
        return _weights(side, size, dtype, device)  # part of the graph
    # Made in inference mode, a tensor could not be used in training later.
    with torch.inference_mode(False):
        return _kept_weights(side, size, dtype, device)


def _weights(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    units = torch.eye(side, dtype=dtype, device=device)[None, :, :, None]
    weights = F.interpolate(units, size=(size, 1), mode='bicubic', align_corners=False)
    return weights[0, :, :, 0].t().contiguous()


# They depend on no parameter, and are a few KiB for each length of a side.
_kept_weights = functools.cache(_weights)
