"""Depth-wise convolution and GELU as an operator that torch can trace; chooses the form."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.native import can_run_triton, operator

from . import plain


def depthwise_gelu(
    x: Tensor, weight: Tensor, bias: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """GELU of one 3×3 depth-wise convolution, zero-padded, on each level of a pyramid of tokens.

    One pass on a GPU, with sums in float32 or better.

    Args:
        x (Tensor): The levels one after another, ``(B, S, C)``, any float dtype.
        weight (Tensor): ``(C, 1, 3, 3)``, any float dtype: autocast need not turn it into another.
        bias (Tensor): ``(C,)``.
        shapes (tuple): Height and width of each level.

    Returns:
        Tensor: ``(B, S, C)`` in the dtype of ``x``.
    """
    if not can_run_triton(x):
        return plain.depthwise_gelu(x, weight, bias, shapes)
    flat = [side for shape in shapes for side in shape]
    return _depthwise_gelu(x.contiguous(), weight.contiguous(), bias.contiguous(), flat)


_TENSORS = 'Tensor x, Tensor weight, Tensor bias'


@operator(
    'mmdet_atc::depthwise_gelu',
    f'({_TENSORS}, SymInt[] shapes) -> Tensor',
    device='cuda',
)
def _depthwise_gelu(x: Tensor, weight: Tensor, bias: Tensor, shapes: list[int]) -> Tensor:
    from . import triton

    return triton.forward(x, weight, bias, shapes)


@operator(
    'mmdet_atc::depthwise_gelu_backward',
    f'({_TENSORS}, Tensor grad, SymInt[] shapes) -> (Tensor, Tensor, Tensor)',
    device='cuda',
)
def _depthwise_gelu_backward(x, weight, bias, grad, shapes):
    from . import triton

    return triton.backward(x, weight, bias, grad, shapes)


@_depthwise_gelu.register_fake
def _(x, weight, bias, shapes):
    return torch.empty_like(x)


@_depthwise_gelu_backward.register_fake
def _(x, weight, bias, grad, shapes):
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.shapes = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, grad: Tensor):
    grads = _depthwise_gelu_backward(*ctx.saved_tensors, grad.contiguous(), ctx.shapes)
    return *grads, None


_depthwise_gelu.register_autograd(_gradients, setup_context=_setup_context)
