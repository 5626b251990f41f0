"""Depth-wise convolution of a pyramid of tokens in plain torch: the specification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import to_map


def depthwise_gelu(
    x: Tensor, weight: Tensor, bias: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """GELU of one 3×3 depth-wise convolution, zero-padded, on each level (ViT-Adapter, sec. 3.4).

    Arguments and result as of :func:`mmdet_atc.layers.depthwise_gelu`.
    """
    levels = x.split([height * width for height, width in shapes], dim=1)
    maps = [
        F.conv2d(to_map(level, shape), weight, bias, padding=1, groups=x.shape[2])
        for level, shape in zip(levels, shapes, strict=True)
    ]
    return F.gelu(torch.cat([grid.flatten(2).transpose(1, 2) for grid in maps], dim=1))
