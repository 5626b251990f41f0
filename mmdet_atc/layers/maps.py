"""Tokens as maps."""

from __future__ import annotations

from torch import Tensor


def to_map(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """Tokens of a grid as a map for convolutions.

    Args:
        tokens (Tensor): ``(B, H * W, C)``.
        shape (tuple[int, int]): H and W.

    Returns:
        Tensor: ``(B, C, H, W)``; on the CPU, where convolutions like it, a view whose channels come
        last in memory, elsewhere contiguous.
    """
    grid = tokens.unflatten(1, shape).permute(0, 3, 1, 2)
    return grid if grid.device.type == 'cpu' else grid.contiguous()
