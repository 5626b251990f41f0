"""The mean of tokens that share a label on a GPU: half precision is read and written as it is."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 8


def segment_mean(x: Tensor, labels: Tensor, totals: Tensor, weights: Tensor | None) -> Tensor:
    """As :func:`mmdet_atc.merging.segments.segment_mean_plain`; ``x`` contiguous."""
    batch, num_rows, channels = x.shape
    num_labels = totals.shape[1]
    sums = x.new_zeros(
        batch, num_labels, channels, dtype=torch.promote_types(x.dtype, torch.float32)
    )
    out = torch.empty_like(sums, dtype=x.dtype)
    sizes = dict(CHANNELS=channels, BLOCK=triton.next_power_of_2(channels), ROWS=_ROWS)
    with torch.cuda.device_of(x):
        _add_kernel[(triton.cdiv(num_rows, _ROWS), batch)](
            x,
            labels.contiguous(),
            None if weights is None else weights.contiguous(),
            sums,
            num_rows,
            num_labels,
            **sizes,
        )
        _divide_kernel[(triton.cdiv(batch * num_labels, _ROWS),)](
            sums, totals.contiguous(), out, batch * num_labels, **sizes
        )
    return out


@triton.jit
def _add_kernel(
    x,
    labels,
    weights,
    sums,
    num_rows,
    num_labels,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)[None, :]
    is_row = row < num_rows
    mask = is_row[:, None] & (channel < CHANNELS)
    at = image * num_rows + row
    found = tl.load(x + at[:, None] * CHANNELS + channel, mask=mask, other=0)
    found = found.to(sums.dtype.element_ty)
    if weights is not None:
        weight = tl.load(weights + at, mask=is_row, other=0).to(sums.dtype.element_ty)
        found *= weight[:, None]
    to = image * num_labels + tl.load(labels + at, mask=is_row, other=0)
    tl.atomic_add(sums + to[:, None] * CHANNELS + channel, found, mask=mask, sem='relaxed')


@triton.jit
def _divide_kernel(
    sums,
    totals,
    out,
    num_rows,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)[None, :]
    is_row = row < num_rows
    mask = is_row[:, None] & (channel < CHANNELS)
    at = row[:, None] * CHANNELS + channel
    total = tl.load(totals + row, mask=is_row, other=1).to(sums.dtype.element_ty)
    tl.store(out + at, tl.load(sums + at, mask=mask, other=0) / total[:, None], mask=mask)
