"""The mean of tokens that share a label, and its two forms."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.native import can_run_triton


def segment_mean(
    x: Tensor, labels: Tensor, totals: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Weighted mean of the rows of ``x`` that share a label, differentiable in ``x``.

    Sums are taken in float32 or better whatever the dtype of ``x``; on a GPU in no fixed order,
    unless ``torch.use_deterministic_algorithms`` asks for one.

    Args:
        x (Tensor): ``(B, N, C)``, any float dtype.
        labels (Tensor): ``(B, N)`` int64 in ``0 .. K - 1``.
        totals (Tensor): Sum of the weights of each label, ``(B, K)``.
        weights (Tensor, optional): ``(B, N)``; ones if None.

    Returns:
        Tensor: ``(B, K, C)`` in the dtype of ``x``.
    """
    if can_run_triton(x) and not torch.are_deterministic_algorithms_enabled():
        return _segment_mean(x.contiguous(), labels, totals, weights)
    return segment_mean_plain(x, labels, totals, weights)


def segment_mean_plain(
    x: Tensor, labels: Tensor, totals: Tensor, weights: Tensor | None = None
) -> Tensor:
    """:func:`segment_mean` in plain torch."""
    rows = x.to(torch.promote_types(x.dtype, torch.float32))
    if weights is not None:
        rows = rows * weights.to(rows.dtype).unsqueeze(-1)
    sums = rows.new_zeros(len(x), totals.shape[1], x.shape[2])
    sums = sums.scatter_add(1, channelwise(labels, x), rows)
    return (sums / totals.to(rows.dtype).unsqueeze(-1)).to(x.dtype)


def channelwise(labels: Tensor, x: Tensor) -> Tensor:
    """``labels`` as an index for every channel of ``x``; a view, nothing is copied."""
    return labels.unsqueeze(-1).expand(-1, -1, x.shape[-1])


@torch.library.custom_op(
    'mmdet_atc::segment_mean',
    mutates_args=(),
    device_types='cuda',
    schema='(Tensor x, Tensor labels, Tensor totals, Tensor? weights) -> Tensor',
)
def _segment_mean(x: Tensor, labels: Tensor, totals: Tensor, weights: Tensor | None) -> Tensor:
    from .triton_segments import segment_mean

    return segment_mean(x, labels, totals, weights)


@_segment_mean.register_fake
def _(x, labels, totals, weights):
    return x.new_empty(len(x), totals.shape[1], x.shape[2])


def _setup_context(ctx, inputs, output) -> None:
    _, *tensors = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    labels, totals, weights = ctx.saved_tensors
    shares = 1 / totals.to(torch.promote_types(grad.dtype, torch.float32)).gather(1, labels)
    shares = shares if weights is None else shares * weights
    rows = grad.gather(1, channelwise(labels, grad))
    return (rows * shares.unsqueeze(-1)).to(grad.dtype), None, None, None


_segment_mean.register_autograd(_backward, setup_context=_setup_context)
