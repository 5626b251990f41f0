"""Layer norm as an operator that torch can trace; chooses between its forms."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.native import can_run_triton, operator

from ..precision import autocast_dtype
from . import plain


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype | None = None
) -> Tensor:
    """Layer norm over the last dimension, statistics in float32 or better.

    Args:
        x (Tensor): ``(B, N, C)``, any float dtype.
        weight (Tensor): ``(C,)``, any float dtype.
        bias (Tensor): ``(C,)`` in the dtype of ``weight``.
        eps (float): Added to the variance.
        dtype (torch.dtype, optional): Of the result; None is autocast's where that is on, so that
            products take it as it is, else that of ``x``. Default: None.

    Returns:
        Tensor: ``(B, N, C)``.
    """
    dtype = dtype or autocast_dtype(x.device.type) or x.dtype
    if not can_run_triton(x):
        with torch.autocast(x.device.type, enabled=False):
            return plain.layer_norm(x, weight, bias, eps, dtype)
    return _layer_norm(x.contiguous(), weight, bias, eps, dtype)


def add_layer_norm(
    x: Tensor,
    branch: Tensor,
    scale: Tensor | None,
    keep: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """``x + keep * scale * branch``, and the layer norm of that, in one pass.

    Args:
        x (Tensor): The residual stream, ``(B, N, C)``, any float dtype.
        branch (Tensor): What is added to it, ``(B, N, C)``, any float dtype.
        scale (Tensor, optional): LayerScale of the branch, ``(C,)``.
        keep (Tensor, optional): Stochastic depth: 0 for images that go without the branch, the
            inverse of the probability to keep it for the others, ``(B,)``; gets no gradient.
        weight (Tensor): As for :func:`layer_norm`.
        bias (Tensor): Likewise.
        eps (float): Likewise.
        dtype (torch.dtype, optional): Likewise.

    Returns:
        tuple[Tensor, Tensor]: The sum in the dtype of ``x``, which is what is normed, and its norm.
    """
    dtype = dtype or autocast_dtype(x.device.type) or x.dtype
    if not can_run_triton(x):
        with torch.autocast(x.device.type, enabled=False):
            return plain.add_layer_norm(x, branch, scale, keep, weight, bias, eps, dtype)
    tensors = x.contiguous(), branch.contiguous(), scale, keep
    return _add_layer_norm(*tensors, weight, bias, eps, dtype)


@operator(
    'mmdet_atc::layer_norm',
    '(Tensor x, Tensor weight, Tensor bias, float eps, ScalarType dtype) -> Tensor',
    device='cuda',
)
def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    from . import triton

    return triton.forward(x, None, None, None, weight, bias, eps, dtype)[1]


@operator(
    'mmdet_atc::add_layer_norm',
    '(Tensor x, Tensor branch, Tensor? scale, Tensor? keep, Tensor weight, Tensor bias, '
    'float eps, ScalarType dtype) -> (Tensor, Tensor)',
    device='cuda',
)
def _add_layer_norm(x, branch, scale, keep, weight, bias, eps, dtype):
    from . import triton

    return triton.forward(x, branch, scale, keep, weight, bias, eps, dtype)


@operator(
    'mmdet_atc::layer_norm_backward',
    '(Tensor total, Tensor? branch, Tensor? scale, Tensor? keep, Tensor weight, float eps, '
    'Tensor? grad_total, Tensor grad_out, ScalarType? branch_dtype) -> Tensor[]',
    device='cuda',
)
def _layer_norm_backward(
    total, branch, scale, keep, weight, eps, grad_total, grad_out, branch_dtype
):
    from . import triton

    grads = triton.backward(
        total, branch, scale, keep, weight, eps, grad_total, grad_out, branch_dtype
    )
    return [grad for grad in grads if grad is not None]


@_layer_norm.register_fake
def _(x, weight, bias, eps, dtype):
    return torch.empty_like(x, dtype=dtype)


@_add_layer_norm.register_fake
def _(x, branch, scale, keep, weight, bias, eps, dtype):
    return torch.empty_like(x), torch.empty_like(x, dtype=dtype)


@_layer_norm_backward.register_fake
def _(total, branch, scale, keep, weight, eps, grad_total, grad_out, branch_dtype):
    grad_branch = [] if branch_dtype is None else [torch.empty_like(total, dtype=branch_dtype)]
    full = torch.promote_types(total.dtype, torch.float32)
    rows = total.new_empty(2 if scale is None else 3, total.shape[-1], dtype=full)
    return [torch.empty_like(total), *grad_branch, rows]


def _setup_norm(ctx, inputs, output) -> None:
    x, weight, _, ctx.eps, _ = inputs
    ctx.save_for_backward(x, weight)


def _norm_gradients(ctx, grad: Tensor):
    x, weight = ctx.saved_tensors
    tensors = x, None, None, None, weight, ctx.eps, None, grad.contiguous(), None
    grad_x, of_parameters = _layer_norm_backward(*tensors)
    return grad_x, *of_parameters.to(weight.dtype), None, None


def _setup_add_norm(ctx, inputs, output) -> None:
    _, branch, scale, keep, weight, _, ctx.eps, _ = inputs
    ctx.branch_dtype = branch.dtype
    needed = None if scale is None else branch
    ctx.save_for_backward(output[0], needed, scale, keep, weight)


def _add_norm_gradients(ctx, *grads: Tensor):
    of_total, of_out = (grad.contiguous() for grad in grads)
    total, branch, scale, keep, weight = ctx.saved_tensors
    grad_x, grad_branch, of_parameters = _layer_norm_backward(
        total, branch, scale, keep, weight, ctx.eps, of_total, of_out, ctx.branch_dtype
    )
    grad_weight, grad_bias, *of_scale = of_parameters.to(weight.dtype)
    grad_scale = of_scale[0].to(scale.dtype) if of_scale else None
    return grad_x, grad_branch, grad_scale, None, grad_weight, grad_bias, None, None


_layer_norm.register_autograd(_norm_gradients, setup_context=_setup_norm)
_add_layer_norm.register_autograd(_add_norm_gradients, setup_context=_setup_add_norm)
