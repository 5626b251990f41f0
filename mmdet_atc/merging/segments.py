"""Tokens that share a label: their weighted mean, and each one's row by its label."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.native import can_run_triton, operator


def segment_mean(
    x: Tensor, labels: Tensor, num_labels: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted mean of the rows of ``x`` that share a label, differentiable in ``x``.

    Sums are taken in float32 or better whatever the dtype of ``x``, on a GPU with Triton in one
    order: the same bits in every run.

    Args:
        x (Tensor): ``(B, N, C)``, any float dtype.
        labels (Tensor): ``(B, N)`` int64 in ``0 .. num_labels - 1``.
        num_labels (int): K.
        weights (Tensor, optional): ``(B, N)``; ones if None.

    Returns:
        tuple: The means ``(B, K, C)`` in the dtype of ``x``, NaN where a label has no row, and each
        label's sum of weights ``(B, K)`` in the dtype of ``weights`` or float32.
    """
    if not can_run_triton(x):
        return segment_sum_plain(x, labels, num_labels, weights, True)
    x, labels, weights = _contiguous(x, labels, weights)
    means, totals = _segment_sum(x, labels, num_labels, weights, True)
    return means, totals.detach()


def take_rows(tokens: Tensor, labels: Tensor) -> Tensor:
    """The token of each label, differentiable in ``tokens``.

    Args:
        tokens (Tensor): ``(B, K, C)``, any dtype.
        labels (Tensor): ``(B, N)`` int64 in ``0 .. K - 1``.

    Returns:
        Tensor: ``(B, N, C)``.
    """
    if not can_run_triton(tokens):
        return take_rows_plain(tokens, labels, None, None)
    tokens, labels = _contiguous(tokens, labels)
    return _take_rows(tokens, labels, None, None)


def segment_sum_plain(
    x: Tensor, labels: Tensor, num_labels: int, weights: Tensor | None, mean: bool
) -> tuple[Tensor, Tensor]:
    """Sum of weight times row over the rows of each label, and of the weights; or the mean."""
    rows = x.to(torch.promote_types(x.dtype, torch.float32))
    masses = x.new_ones(labels.shape, dtype=torch.float32) if weights is None else weights
    totals = masses.new_zeros(x.shape[0], num_labels).scatter_add(1, labels, masses)
    if weights is not None:
        rows = rows * weights.to(rows.dtype).unsqueeze(-1)
    sums = rows.new_zeros(x.shape[0], num_labels, x.shape[2])
    sums = sums.scatter_add(1, _channelwise(labels, x), rows)
    if mean:
        sums = sums / totals.to(rows.dtype).unsqueeze(-1)
    return sums.to(x.dtype), totals


def take_rows_plain(
    tokens: Tensor, labels: Tensor, weights: Tensor | None, totals: Tensor | None
) -> Tensor:
    """The adjoint of :func:`segment_sum_plain`: each row's weight times the token of its label.

    With ``totals`` of a mean.
    """
    rows = tokens.gather(1, _channelwise(labels, tokens))
    full = torch.promote_types(tokens.dtype, torch.float32)
    if weights is not None:
        rows = rows * weights.to(full).unsqueeze(-1)
    if totals is not None:
        rows = rows / totals.to(full).gather(1, labels).unsqueeze(-1)
    return rows.to(tokens.dtype)


def _channelwise(labels: Tensor, x: Tensor) -> Tensor:
    """``labels`` as an index for every channel of ``x``; a view, nothing is copied."""
    return labels.unsqueeze(-1).expand(-1, -1, x.shape[-1])


def _contiguous(*tensors: Tensor | None) -> tuple:
    return tuple(x if x is None else x.contiguous() for x in tensors)


@operator(
    'mmdet_atc::segment_sum',
    '(Tensor x, Tensor labels, SymInt num_labels, Tensor? weights, bool mean) -> (Tensor, Tensor)',
    device='cuda',
)
def _segment_sum(x, labels, num_labels, weights, mean):
    from .triton_segments import segment_sum

    return segment_sum(x, labels, num_labels, weights, mean)


@operator(
    'mmdet_atc::take_rows',
    '(Tensor tokens, Tensor labels, Tensor? weights, Tensor? totals) -> Tensor',
    device='cuda',
)
def _take_rows(tokens, labels, weights, totals):
    from .triton_segments import take_rows

    return take_rows(tokens, labels, weights, totals)


@_segment_sum.register_fake
def _(x, labels, num_labels, weights, mean):
    dtype = torch.float32 if weights is None else weights.dtype
    totals = x.new_empty(x.shape[0], num_labels, dtype=dtype)
    return x.new_empty(x.shape[0], num_labels, x.shape[2]), totals


@_take_rows.register_fake
def _(tokens, labels, weights, totals):
    return tokens.new_empty(*labels.shape, tokens.shape[2])


def _setup_sum(ctx, inputs, output) -> None:
    _, labels, _, weights, mean = inputs
    ctx.save_for_backward(labels, weights, output[1] if mean else None)
    ctx.set_materialize_grads(False)  # none of the totals


def _sum_gradients(ctx, grad: Tensor, _: None):
    return _take_rows(grad.contiguous(), *ctx.saved_tensors), None, None, None, None


def _setup_take(ctx, inputs, output) -> None:
    tokens, *rest = inputs
    ctx.num_labels = tokens.shape[1]
    ctx.save_for_backward(*rest)


def _take_gradients(ctx, grad: Tensor):
    labels, weights, totals = ctx.saved_tensors
    is_mean = totals is not None
    sums, _ = _segment_sum(grad.contiguous(), labels, ctx.num_labels, weights, is_mean)
    return sums, None, None, None


_segment_sum.register_autograd(_sum_gradients, setup_context=_setup_sum)
_take_rows.register_autograd(_take_gradients, setup_context=_setup_take)
