"""The sum that an output map is, in plain torch: the specification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import to_map

#: Weight, bias, running mean and running variance ``(C,)`` of a batch norm, and its epsilon.
BatchNormParts = tuple[Tensor, Tensor, Tensor, Tensor, float]


def resized_sum(
    base: Tensor,
    feature: Tensor | None,
    shape: tuple[int, int],
    grid: tuple[int, int],
    quads: Tensor | None = None,
    norm: BatchNormParts | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A map, plus a feature resized to it bilinearly, normed as in inference.

    Arguments and result as of :func:`mmdet_atc.layers.resized_sum`.
    """
    total = base.to(torch.promote_types(base.dtype, torch.float32))
    if quads is not None:
        blocks = quads.to(total.dtype).unflatten(2, (2, 2, -1))
        blocks = blocks.unflatten(1, (shape[0] // 2, shape[1] // 2))
        total = total + blocks.transpose(2, 3).flatten(1, 4)
    if feature is not None:
        resized = F.interpolate(to_map(feature.to(total.dtype), grid), shape, mode='bilinear')
        total = total + resized.flatten(2).transpose(1, 2)
    if norm is not None:
        total = normed(total, norm)
    return total.to(dtype or base.dtype)


def normed(total: Tensor, norm: BatchNormParts) -> Tensor:
    """Batch norm of tokens as in inference, ``(B, N, C)``."""
    *parts, eps = norm
    weight, bias, mean, variance = (part.to(total.dtype) for part in parts)
    out = F.batch_norm(total.transpose(1, 2), mean, variance, weight, bias, eps=eps)
    return out.transpose(1, 2)
