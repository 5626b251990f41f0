"""A partition that sees nothing of the picture, to compare clusters with."""

from __future__ import annotations

import math

import numpy as np


def regular_blocks(grid: tuple[int, int], num_clusters: int) -> np.ndarray:
    """Rectangles of about equal, about square size.

    Args:
        grid (tuple[int, int]): Height and width of the patch grid.
        num_clusters (int): At most so many rectangles, at least 1.

    Returns:
        ndarray: Labels, ``grid`` int64.
    """
    height, width = grid
    rows = min(max(1, round(math.sqrt(num_clusters * height / width))), height, num_clusters)
    cols = min(num_clusters // rows, width)
    row, col = np.arange(height) * rows // height, np.arange(width) * cols // width
    return row[:, None] * cols + col
