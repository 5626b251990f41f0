"""The sum that an output map is, as an operator that torch can trace; chooses the form."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.native import can_run_triton, operator

from . import plain
from .plain import BatchNormParts


def resized_sum(
    base: Tensor,
    feature: Tensor | None,
    shape: tuple[int, int],
    grid: tuple[int, int],
    quads: Tensor | None = None,
    norm: BatchNormParts | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A map, plus a feature resized to it bilinearly, normed as in inference: one pass on a GPU.

    Args:
        base (Tensor): Tokens of the map, row by row, ``(B, H * W, C)``, any float dtype; may be
            part of the tokens of more levels.
        feature (Tensor, optional): Tokens of another map, ``(B, h * w, C)``.
        shape (tuple[int, int]): H and W, multiples of h and w or their halves.
        grid (tuple[int, int]): h and w.
        quads (Tensor, optional): A map's 2×2 blocks, each a token's channels: upper left, upper
            right, lower left, lower right, ``(B, H / 2 * W / 2, 4 * C)``. So a transposed
            convolution of kernel and stride 2 is one product of tokens. Default: None.
        norm (BatchNormParts, optional): Of the batch norm: weight, bias, running mean and variance
            ``(C,)`` and epsilon. Default: None.
        dtype (torch.dtype, optional): Of the result; None is that of ``base``. Default: None.

    Returns:
        Tensor: ``(B, H * W, C)``; sums are taken in float32 or better.
    """
    dtype = dtype or base.dtype
    if not can_run_triton(base):
        with torch.autocast(base.device.type, enabled=False):
            return plain.resized_sum(base, feature, shape, grid, quads, norm, dtype)
    if not base[0].is_contiguous():
        base = base.contiguous()
    feature, quads = (x if x is None else x.contiguous() for x in (feature, quads))
    tensors = base, feature, list(shape), list(grid), quads
    if norm is None:
        return _resized_sum(*tensors, None, 0.0, dtype)
    *parts, eps = norm
    inputs = base, feature, quads, *parts
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        total = _resized_sum(*tensors, None, 0.0, torch.promote_types(dtype, torch.float32))
        return plain.normed(total, norm).to(dtype)
    return _resized_sum(*tensors, list(parts), eps, dtype)


@operator(
    'mmdet_atc::resized_sum',
    '(Tensor base, Tensor? feature, SymInt[] shape, SymInt[] grid, Tensor? quads, '
    'Tensor[]? norm, float eps, ScalarType dtype) -> Tensor',
    device='cuda',
)
def _resized_sum(base, feature, shape, grid, quads, norm, eps, dtype):
    from . import triton

    return triton.forward(base, feature, shape, grid, quads, norm, eps, dtype)


@operator(
    'mmdet_atc::resized_sum_backward',
    '(Tensor grad, SymInt[] shape, SymInt[] grid, ScalarType dtype) -> Tensor',
    device='cuda',
)
def _of_feature(grad, shape, grid, dtype):
    from . import triton

    return triton.backward(grad, shape, grid, dtype)


@_resized_sum.register_fake
def _(base, feature, shape, grid, quads, norm, eps, dtype):
    return base.new_empty(base.shape, dtype=dtype)


@_of_feature.register_fake
def _(grad, shape, grid, dtype):
    return grad.new_empty(len(grad), grid[0] * grid[1], grad.shape[2], dtype=dtype)


def _setup_context(ctx, inputs, output) -> None:
    base, feature, ctx.shape, ctx.grid, quads, *_ = inputs
    ctx.dtypes = [None if x is None else x.dtype for x in (base, feature, quads)]


def _gradients(ctx, grad: Tensor):
    of_base, of_feature, of_quads = ctx.dtypes
    if of_feature is not None:
        of_feature = _of_feature(grad.contiguous(), ctx.shape, ctx.grid, of_feature)
    if of_quads is not None:
        height, width = ctx.shape
        blocks = grad.unflatten(1, (height // 2, 2, width // 2, 2)).transpose(2, 3)
        of_quads = blocks.flatten(3).flatten(1, 2).to(of_quads)
    return grad.to(of_base), of_feature, None, None, of_quads, None, None, None


_resized_sum.register_autograd(_gradients, setup_context=_setup_context)
