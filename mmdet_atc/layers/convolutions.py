"""Convolutions that are products: of each pixel alone, or of each patch.

CPU forms of those that make output maps have channels first in memory, as outputs must there:
turning a map of stride 4 afterwards takes three times as long as the product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .maps import to_map, to_tokens
from .residual import add_residual


def patch_tokens(conv: nn.Conv2d, image: Tensor) -> Tensor:
    """A convolution whose stride is its kernel: each patch to a token, in the weight's dtype.

    Args:
        conv (nn.Conv2d): With a square kernel of side P.
        image (Tensor): ``(B, C, H, W)``, H and W multiples of P.

    Returns:
        Tensor: ``(B, H / P * W / P, C')``, contiguous.
    """
    side = conv.kernel_size[0]
    rows, cols = (length // side for length in image.shape[-2:])
    patches = image.unflatten(3, (cols, side)).unflatten(2, (rows, side)).permute(0, 2, 4, 1, 3, 5)
    return F.linear(patches.flatten(3).flatten(1, 2), conv.weight.flatten(1), conv.bias)


def pointwise_tokens(conv: nn.Conv2d, x: Tensor, embed: Tensor) -> Tensor:
    """A 1×1 convolution with bias, and what all its results have in common, as tokens.

    Args:
        conv (nn.Conv2d): The convolution.
        x (Tensor): ``(B, C, H, W)``.
        embed (Tensor): Added to each token, ``(C',)``.

    Returns:
        Tensor: ``(B, H * W, C')``.
    """
    assert conv.bias is not None
    return F.linear(to_tokens(x), conv.weight.flatten(1), conv.bias + embed)


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1×1 convolution with bias, ``(B, C, H, W)`` to ``(B, C', H, W)``."""
    return pointwise_by_product(conv, x) if x.device.type == 'cpu' else conv(x)


def pointwise_by_product(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """:func:`pointwise` as one product with channels first."""
    assert conv.bias is not None
    weight = conv.weight.flatten(1).expand(x.shape[0], -1, -1)
    return torch.baddbmm(conv.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


def upsampled_onto(
    up: nn.ConvTranspose2d, level: Tensor, shape: tuple[int, int], grid: Tensor
) -> Tensor:
    """A transposed convolution, 2×2 of stride 2, of tokens, added to a map twice as large.

    Args:
        up (nn.ConvTranspose2d): With bias.
        level (Tensor): Tokens ``(B, H * W, C)``.
        shape (tuple[int, int]): H and W.
        grid (Tensor): ``(B, C', 2 * H, 2 * W)``, which nothing else may hold.

    Returns:
        Tensor: ``(B, C', 2 * H, 2 * W)``.
    """
    if level.device.type == 'cpu':
        return upsampled_onto_by_product(up, level, shape, grid)
    return add_residual(up(to_map(level, shape)), grid)


def upsampled_onto_by_product(
    up: nn.ConvTranspose2d, level: Tensor, shape: tuple[int, int], grid: Tensor
) -> Tensor:
    """:func:`upsampled_onto`, where each token makes four pixels on its own in one product."""
    assert up.bias is not None
    height, width = shape
    quads = torch.baddbmm(
        up.bias.repeat_interleave(4)[:, None],
        up.weight.flatten(1).t().expand(level.shape[0], -1, -1),
        level.transpose(1, 2),
    )
    quads = quads.unflatten(1, (-1, 2, 2)).unflatten(4, (height, width))
    grid = grid.unflatten(3, (width, 2)).unflatten(2, (height, 2))
    return add_residual(quads.permute(0, 1, 4, 2, 5, 3), grid).flatten(4).flatten(2, 3)
