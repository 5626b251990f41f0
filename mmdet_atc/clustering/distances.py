"""Directions of an image's tokens and the cosine distances between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native


def unit_vectors(features: Tensor) -> Tensor:
    """Directions of features of any magnitude.

    Each vector is scaled by a power of two first, since squares of numbers from about 1e19 on (or
    below 1e-19) do not fit in float32; where they fit, this changes no bit.

    Args:
        features (Tensor): ``(B, N, C)``, float32 or float64, C at least 1.

    Returns:
        Tensor: ``(B, N, C)`` unit vectors; zero vectors stay.
    """
    greatest = features.abs().amax(dim=-1, keepdim=True)
    mantissa = torch.frexp(greatest).mantissa
    return F.normalize(features / torch.where(greatest == 0, 1, greatest / (2 * mantissa)), dim=-1)


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
