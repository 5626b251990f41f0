"""Deformable attention as an operator that torch can trace; chooses between its forms."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.native import can_run_triton, operator

from . import cpp, plain


def deformable_attention(
    value: Tensor, projections: Tensor, reference: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Weighted sum of bilinear samples per query and head (Zhu et al., ICLR 2021, equation 3).

    One pass over the queries: in C++ on the CPU, in Triton on a GPU; in plain torch, several times
    as slowly, where there is no compiler, no Triton, and for gradients on a GPU under
    ``torch.use_deterministic_algorithms``, since the kernel adds to that of ``value`` in no fixed
    order.

    Args:
        value (Tensor): ``(B, S, H, D)``, the levels one after another, any float dtype.
        projections (Tensor): What a query asks for, ``(B, Q, H * L * P * 3)``: offsets
            ``(H, L, P, 2)`` as (x, y) from the reference point, in cells of the level; then the
            weights' logits ``(H, L * P)``. Any float dtype; computed with in float32 or better.
        reference (Tensor): Centre of each query as (x, y) in [0, 1], ``(Q, 2)``; gets no gradient.
        shapes (tuple): Height and width of each level.

    Returns:
        Tensor: ``(B, Q, H, D)`` in the dtype of ``value``; sums are taken in float32 or better.
    """
    tensors = value, projections, reference
    if _why_plain(value, projections):
        return plain.deformable_attention(*tensors, shapes)
    flat = [side for shape in shapes for side in shape]
    return _attend(*(x.contiguous() for x in tensors), flat)


def _why_plain(value: Tensor, projections: Tensor) -> str | None:
    """Why the operator cannot be used; None where it can."""
    if value.device.type == 'cpu':
        return None if _is_compiled() else 'no C++ compiler'
    if not can_run_triton(value):
        return 'not a CUDA device, or Triton is not installed'
    wants_grad = torch.is_grad_enabled() and (value.requires_grad or projections.requires_grad)
    if wants_grad and torch.are_deterministic_algorithms_enabled():
        return 'the gradient of the values would depend on the order of programs'
    return None


@torch.compiler.assume_constant_result
def _is_compiled() -> bool:
    return cpp.library() is not None


# Schemas are spelled out: torch 2.6 cannot read them off annotations such as list[int].
_TENSORS = 'Tensor value, Tensor projections, Tensor reference'


@operator(
    'mmdet_atc::deformable_attention',
    f'({_TENSORS}, SymInt[] shapes) -> Tensor',
    device='cpu',
)
def _attend(value: Tensor, projections: Tensor, reference: Tensor, shapes: list[int]) -> Tensor:
    if not _is_compiled():  # a program that was exported where it is
        pairs = tuple(zip(shapes[::2], shapes[1::2], strict=True))
        return plain.deformable_attention(value, projections, reference, pairs)
    return cpp.forward(value, projections, reference, shapes)


@operator(
    'mmdet_atc::deformable_attention_backward',
    f'({_TENSORS}, Tensor grad, SymInt[] shapes) -> (Tensor, Tensor)',
    device='cpu',
)
def _attend_backward(
    value: Tensor, projections: Tensor, reference: Tensor, grad: Tensor, shapes: list[int]
) -> tuple[Tensor, Tensor]:
    return cpp.backward(value, projections, reference, grad, shapes)


@_attend.register_kernel('cuda')
def _(value, projections, reference, shapes):
    from . import triton

    return triton.forward(value, projections, reference, shapes)


@_attend_backward.register_kernel('cuda')
def _(value, projections, reference, grad, shapes):
    from . import triton

    return triton.backward(value, projections, reference, grad, shapes)


@_attend.register_fake
def _(value, projections, reference, shapes):
    return value.new_empty(value.shape[0], projections.shape[1], *value.shape[2:])


@_attend_backward.register_fake
def _(value, projections, reference, grad, shapes):
    return torch.empty_like(value), torch.empty_like(projections)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.shapes = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    grads = _attend_backward(*ctx.saved_tensors, grad.contiguous(), ctx.shapes)
    return *grads, None, None


_attend.register_autograd(_backward, setup_context=_setup_context)
