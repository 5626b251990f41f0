"""Tokens as maps."""

from __future__ import annotations

from torch import Tensor


def to_map(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """Tokens of a grid as a map, a view whose channels come last in memory.

    Args:
        tokens (Tensor): ``(B, H * W, C)``.
        shape (tuple[int, int]): H and W.

    Returns:
        Tensor: ``(B, C, H, W)``.
    """
    return tokens.unflatten(1, shape).permute(0, 3, 1, 2)


def to_tokens(grid: Tensor) -> Tensor:
    """A map as tokens, a view where its channels come last in memory.

    Args:
        grid (Tensor): ``(B, C, H, W)``.

    Returns:
        Tensor: ``(B, H * W, C)``.
    """
    return grid.permute(0, 2, 3, 1).flatten(1, 2)
