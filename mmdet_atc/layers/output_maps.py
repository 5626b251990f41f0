"""The output maps: a level of the pyramid, plus the ViT's feature resized to it, normed."""

from __future__ import annotations

import functools
import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_atc.native import can_run_triton

from .conv_norm import is_foldable
from .convolutions import pointwise, upsampled_onto
from .maps import to_map, to_tokens
from .precision import autocast_dtype
from .residual import add_residual
from .resize import BatchNormParts, resized_sum

Shape = tuple[int, int]


def feature_map(patches: Tensor, grid: Shape) -> Tensor:
    """The ViT's tokens ``(B, N, C)`` as the map that all output maps take, ``(B, C, h, w)``."""
    feature = to_map(patches, grid)
    return feature if _is_one_pass(patches) else feature.contiguous()


def finest_map(
    stem: list[Tensor],
    conv: nn.Conv2d,
    up: nn.ConvTranspose2d,
    level: Tensor,
    shape: Shape,
    feature: Tensor | None,
    norm: nn.Module,
) -> Tensor:
    """The map of stride 4, by far the largest, with the level of stride 8 upsampled onto it.

    Args:
        stem (list[Tensor]): One map ``(B, C', H, W)``, taken out of the list so that nothing holds
            it where memory peaks.
        conv (nn.Conv2d): 1×1, C' to C channels.
        up (nn.ConvTranspose2d): 2×2 of stride 2, C to C channels.
        level (Tensor): Tokens of stride 8, ``(B, H * W / 4, C)``.
        shape (tuple[int, int]): Their height and width.
        feature (Tensor, optional): From :func:`feature_map`.
        norm (nn.Module): Of C channels.

    Returns:
        Tensor: ``(B, C, H, W)``.
    """
    if _is_one_pass(level):
        assert conv.bias is not None
        assert up.bias is not None
        base = F.linear(to_tokens(stem.pop()), conv.weight.flatten(1), conv.bias + up.bias)
        # Each token makes four pixels on its own: (C, 2, 2, C).
        weight = up.weight.permute(0, 2, 3, 1).flatten(1)
        quads = torch.bmm(level, weight.expand(len(level), -1, -1))
        return _in_one_pass(base, (2 * shape[0], 2 * shape[1]), quads, feature, norm)
    out = pointwise(conv, stem.pop())
    return _normed(upsampled_onto(up, level, shape, out), feature, norm)


def coarser_map(level: Tensor, shape: Shape, feature: Tensor | None, norm: nn.Module) -> Tensor:
    """A map of stride 8, 16 or 32, ``(B, C, H, W)``; arguments as :func:`finest_map`."""
    if _is_one_pass(level):
        return _in_one_pass(level, shape, None, feature, norm)
    # For mmcv's RoIAlign, as below, and the CPU's convolutions of the neck.
    return _normed(to_map(level, shape).contiguous(), feature, norm)


def _normed(out: Tensor, feature: Tensor | None, norm: nn.Module) -> Tensor:
    if feature is not None:
        out = _with_feature(out, feature)
    return norm(out)


def _with_feature(out: Tensor, feature: Tensor) -> Tensor:
    """The sum of a map and the resized feature, in inference in the place of one of them."""
    # A trace's lengths are tensors, which no scale can be.
    widths = [x.shape[-1] for x in (out, feature)]
    scale = float(widths[0] / widths[1])
    if scale == 1:
        return add_residual(feature, out)
    resized = F.interpolate(feature, scale_factor=scale, mode='bilinear', align_corners=False)
    if resized.dtype == out.dtype:
        return add_residual(resized, out)
    return add_residual(out, resized)  # under autocast the map is the narrower one


def _is_one_pass(level: Tensor) -> bool:
    return can_run_triton(level)


def _in_one_pass(
    base: Tensor, shape: Shape, quads: Tensor | None, feature: Tensor | None, norm: nn.Module
) -> Tensor:
    parts: BatchNormParts | None = None
    if is_foldable(norm):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        parts = norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
    grid = shape if feature is None else (feature.shape[-2], feature.shape[-1])
    tokens = None if feature is None else to_tokens(feature)
    dtype = autocast_dtype(base.device.type) or base.dtype
    out = to_map(resized_sum(base, tokens, shape, grid, quads, parts, dtype), shape)
    out = out if parts else norm(out)
    # In float32 a neck's convolutions want channels first, too.
    return out.contiguous() if dtype.itemsize >= 4 or _are_channels_read_first() else out


@functools.cache
def _are_channels_read_first() -> bool:
    """Whether RoIAlign is mmcv's compiled one, which takes the memory of every map for NCHW.

    A neck hands on the memory format of its inputs. torchvision's RoIAlign, which stands in for it
    in :mod:`mmdet_atc.mmcv_ext`, looks at it.
    """
    if importlib.util.find_spec('mmcv') is None:
        return False
    compiled = importlib.util.find_spec('mmcv._ext')
    return compiled is not None and compiled.origin is not None
