"""Layer norm and the residual before it on a GPU: each value is read once and written once.

A program has some rows. Backward, a fixed number of programs share the rows and write a sum each
for the parameters, which are then added in one order: the same in every run. Arithmetic is in
float32 (float64 for float64), whatever the dtype of what is read and written.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_FORWARD = dict(BLOCK_ROWS=2, num_warps=2)
_BACKWARD = dict(BLOCK_ROWS=4, num_warps=4)
#: Programs of the backward pass: several for each multiprocessor of a large GPU.
_PROGRAMS = 528


def forward(
    x: Tensor,
    branch: Tensor | None,
    scale: Tensor | None,
    keep: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    options: dict[str, int] = _FORWARD,
) -> tuple[Tensor, Tensor]:
    """As :func:`plain.add_layer_norm`, all contiguous; without ``branch`` the sum is ``x``.

    ``options`` are ``BLOCK_ROWS`` (a power of two) and ``num_warps``.
    """
    channels = x.shape[-1]
    num_rows = x.numel() // channels
    total = x if branch is None else torch.empty_like(x)
    out = torch.empty_like(x, dtype=dtype)
    with torch.cuda.device_of(x):
        _norm_kernel[(triton.cdiv(num_rows, options['BLOCK_ROWS']),)](
            *(x, branch, scale, keep, weight, bias),
            *(None if branch is None else total, out),
            *(eps, num_rows, x.shape[1]),
            CHANNELS=channels,
            BLOCK_CHANNELS=triton.next_power_of_2(channels),
            **options,
        )
    return total, out


def backward(
    total: Tensor,
    branch: Tensor | None,
    scale: Tensor | None,
    keep: Tensor | None,
    weight: Tensor,
    eps: float,
    grad_total: Tensor | None,
    grad_out: Tensor,
    branch_dtype: torch.dtype | None,
    options: dict[str, int] = _BACKWARD,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of ``x``, of the branch, and of ``weight``, the bias and ``scale`` as rows of one.

    Args:
        total (Tensor): The sum that was normed.
        branch (Tensor, optional): Needed where there is a ``scale``.
        scale, keep, weight, eps: As in :func:`forward`.
        grad_total (Tensor, optional): Gradient of the sum; None is zero.
        grad_out (Tensor): Gradient of the norm.
        branch_dtype (torch.dtype, optional): Of the branch, None where there was none.
        options (dict): As in :func:`forward`.
    """
    channels = total.shape[-1]
    num_rows = total.numel() // channels
    programs = min(triton.cdiv(num_rows, options['BLOCK_ROWS']), _PROGRAMS)
    full = torch.promote_types(total.dtype, torch.float32)
    grad_x = torch.empty_like(total)
    grad_branch = None if branch_dtype is None else torch.empty_like(total, dtype=branch_dtype)
    sums = total.new_empty(2 if scale is None else 3, programs, channels, dtype=full)
    with torch.cuda.device_of(total):
        _norm_backward_kernel[(programs,)](
            *(total, branch, scale, keep, weight, grad_total, grad_out, grad_x, grad_branch, sums),
            *(eps, num_rows, total.shape[1], programs),
            CHANNELS=channels,
            BLOCK_CHANNELS=triton.next_power_of_2(channels),
            **options,
        )
    return grad_x, grad_branch, sums.sum(1)


@triton.jit(do_not_specialize=['num_rows', 'rows_per_image'])
def _norm_kernel(
    x,
    branch,
    scale,
    keep,
    weight,
    bias,
    total,
    out,
    eps,
    num_rows,
    rows_per_image,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    channel = tl.arange(0, BLOCK_CHANNELS)
    is_channel = channel < CHANNELS
    mask = (row < num_rows)[:, None] & is_channel[None, :]
    at = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    rows = tl.load(x + at, mask=mask, other=0).to(FULL)
    if branch is not None:
        added = tl.load(branch + at, mask=mask, other=0).to(FULL)
        added *= _factor(scale, keep, row, channel, is_channel, num_rows, rows_per_image, FULL)
        rows = (rows + added).to(x.dtype.element_ty)
        tl.store(total + at, rows, mask=mask)
        rows = rows.to(FULL)
    normed, _ = _normed(rows, is_channel, eps, CHANNELS)
    gain = tl.load(weight + channel, mask=is_channel, other=0).to(FULL)
    shift = tl.load(bias + channel, mask=is_channel, other=0).to(FULL)
    tl.store(out + at, normed * gain[None, :] + shift[None, :], mask=mask)


@triton.jit(do_not_specialize=['num_rows', 'rows_per_image', 'programs'])
def _norm_backward_kernel(
    total,
    branch,
    scale,
    keep,
    weight,
    grad_total,
    grad_out,
    grad_x,
    grad_branch,
    sums,
    eps,
    num_rows,
    rows_per_image,
    programs,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
    program = tl.program_id(0)
    channel = tl.arange(0, BLOCK_CHANNELS)
    is_channel = channel < CHANNELS
    gain = tl.load(weight + channel, mask=is_channel, other=0).to(FULL)[None, :]
    of_weight = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), FULL)
    of_bias = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), FULL)
    of_scale = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), FULL)
    for first in range(program * BLOCK_ROWS, num_rows, programs * BLOCK_ROWS):
        row = first + tl.arange(0, BLOCK_ROWS)
        mask = (row < num_rows)[:, None] & is_channel[None, :]
        at = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        rows = tl.load(total + at, mask=mask, other=0).to(FULL)
        normed, inverse = _normed(rows, is_channel, eps, CHANNELS)
        grad = tl.load(grad_out + at, mask=mask, other=0).to(FULL)
        of_weight += grad * normed
        of_bias += grad
        grad *= gain
        mean = tl.sum(grad, 1)[:, None] / CHANNELS
        along = tl.sum(grad * normed, 1)[:, None] / CHANNELS
        grad = (grad - mean - normed * along) * inverse
        if grad_total is not None:
            grad += tl.load(grad_total + at, mask=mask, other=0).to(FULL)
        tl.store(grad_x + at, grad, mask=mask)
        if grad_branch is not None:
            factor = _factor(scale, keep, row, channel, is_channel, num_rows, rows_per_image, FULL)
            tl.store(grad_branch + at, grad * factor, mask=mask)
            if scale is not None:
                added = tl.load(branch + at, mask=mask, other=0).to(FULL)
                added *= _factor(
                    None, keep, row, channel, is_channel, num_rows, rows_per_image, FULL
                )
                of_scale += grad * added
    to = sums + program * CHANNELS + channel
    tl.store(to, tl.sum(of_weight, 0), mask=is_channel)
    tl.store(to + programs * CHANNELS, tl.sum(of_bias, 0), mask=is_channel)
    if scale is not None:
        tl.store(to + 2 * programs * CHANNELS, tl.sum(of_scale, 0), mask=is_channel)


@triton.jit
def _normed(rows, is_channel, eps, CHANNELS: tl.constexpr):
    """Rows with mean 0 and variance 1, and the inverse of their standard deviation."""
    centred = rows - tl.sum(rows, 1)[:, None] / CHANNELS
    centred = tl.where(is_channel[None, :], centred, 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 1) / CHANNELS + eps)[:, None]
    return centred * inverse, inverse


@triton.jit
def _factor(scale, keep, row, channel, is_channel, num_rows, rows_per_image, FULL: tl.constexpr):
    """What a branch is multiplied by."""
    factor = tl.full((1, 1), 1, FULL)
    if scale is not None:
        factor *= tl.load(scale + channel, mask=is_channel, other=0).to(FULL)[None, :]
    if keep is not None:
        of_row = tl.load(keep + row // rows_per_image, mask=row < num_rows, other=0)
        factor *= of_row.to(FULL)[:, None]
    return factor
