"""Cosine distances between the tokens of an image."""

from __future__ import annotations

import torch
from torch import Tensor

from . import native


def cosine_distances(directions: Tensor) -> Tensor:
    """The distances that tokens are clustered by.

    Args:
        directions (Tensor): ``(B, N, C)`` unit vectors, float32 or float64, any device.

    Returns:
        Tensor: ``(B, N, N)``, symmetric, 1 - cosine and a diagonal of zeros.
    """
    if directions.device.type == 'cpu' and native.is_available():
        upper = native.upper_cosine_distances(directions)
    else:
        upper = torch.matmul(directions, directions.transpose(1, 2)).neg_().add_(1).triu_(1)
    return upper + upper.transpose(1, 2)
