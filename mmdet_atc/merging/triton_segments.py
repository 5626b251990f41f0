"""Sums of rows that share a label, and rows by label, on a GPU: the same bits in every run.

One kernel counts, for each row, the rows that come before it when sorted by label, which is its
place in that order (N² comparisons of integers take less time than a sort's passes do); then a
program a label adds up its rows, in order, until another label's come. Arithmetic is in float32
(float64 for float64).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_SUM = dict(MEMBERS=8, num_warps=2)
_TAKE = dict(ROWS=4, num_warps=4)
_ORDER = dict(ROWS=32, BLOCK=128, num_warps=4)


def segment_sum(
    x: Tensor,
    labels: Tensor,
    num_labels: int,
    weights: Tensor | None,
    mean: bool,
    options: dict[str, int] = _SUM,
) -> tuple[Tensor, Tensor]:
    """As :func:`mmdet_atc.merging.segments.segment_sum_plain`, all contiguous.

    ``options`` are ``MEMBERS`` that a program adds up at a time (a power of two) and ``num_warps``.
    """
    batch, num_rows, channels = x.shape
    # The last block of rows reaches beyond them.
    is_wide = num_labels * num_rows + num_rows + _ORDER['BLOCK'] >= 2**31
    keys = labels.new_empty(batch, num_rows, dtype=torch.int64 if is_wide else torch.int32)
    starts = labels.new_empty(batch, num_labels, dtype=torch.int32)
    out = x.new_empty(batch, num_labels, channels)
    dtype = torch.float32 if weights is None else weights.dtype
    totals = x.new_empty(batch, num_labels, dtype=dtype)
    with torch.cuda.device_of(x):
        _order_kernel[(triton.cdiv(num_rows, _ORDER['ROWS']), batch)](
            *(labels, keys, starts, num_rows, num_labels), **_ORDER
        )
        _sum_kernel[(num_labels, batch)](
            *(x, keys, starts, weights, totals, out, num_rows, num_labels),
            MEAN=mean,
            CHANNELS=channels,
            BLOCK_CHANNELS=triton.next_power_of_2(channels),
            **options,
        )
    return out, totals


def take_rows(
    tokens: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    totals: Tensor | None,
    options: dict[str, int] = _TAKE,
) -> Tensor:
    """As :func:`mmdet_atc.merging.segments.take_rows_plain`, all contiguous.

    ``options`` are ``ROWS`` of a program (a power of two) and ``num_warps``.
    """
    batch, num_labels, channels = tokens.shape
    num_rows = labels.shape[1]
    out = tokens.new_empty(batch, num_rows, channels)
    with torch.cuda.device_of(tokens):
        _take_kernel[(triton.cdiv(num_rows, options['ROWS']), batch)](
            *(tokens, labels, weights, totals, out, num_rows, num_labels),
            CHANNELS=channels,
            BLOCK_CHANNELS=triton.next_power_of_2(channels),
            **options,
        )
    return out


@triton.jit(do_not_specialize=['num_rows', 'num_labels'])
def _order_kernel(
    labels,
    keys,
    starts,
    num_rows,
    num_labels,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    KEY: tl.constexpr = keys.dtype.element_ty
    image = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    labels += image * num_rows
    label = tl.load(labels + row, mask=is_row, other=0).to(KEY)
    # Keys sort by label, then by row; a label's lowest possible one comes after all lower labels.
    lowest = (label * num_rows)[:, None]
    key = lowest + row[:, None]
    before = tl.zeros((ROWS, BLOCK), tl.int32)
    below = tl.zeros((ROWS, BLOCK), tl.int32)
    for first in range(0, num_rows, BLOCK):
        other = first + tl.arange(0, BLOCK)
        others = tl.load(labels + other, mask=other < num_rows, other=num_labels).to(KEY)
        others = (others * num_rows + other)[None, :]
        before += (others < key).to(tl.int32)
        below += (others < lowest).to(tl.int32)
    place = tl.sum(before, 1)
    start = tl.sum(below, 1)
    tl.store(keys + image * num_rows + place, label * num_rows + row, mask=is_row)
    tl.store(starts + image * num_labels + label, start, mask=is_row & (place == start))


@triton.jit(do_not_specialize=['num_rows', 'num_labels'])
def _sum_kernel(
    x,
    keys,
    starts,
    weights,
    totals,
    out,
    num_rows,
    num_labels,
    MEAN: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    image = tl.program_id(1).to(tl.int64)
    lowest = tl.program_id(0).to(keys.dtype.element_ty) * num_rows
    label = image * num_labels + tl.program_id(0)
    channel = tl.arange(0, BLOCK_CHANNELS)
    is_channel = channel < CHANNELS
    keys += image * num_rows
    x += image * num_rows * CHANNELS
    sums = tl.zeros((MEMBERS, BLOCK_CHANNELS), FULL)
    total = tl.zeros((MEMBERS,), FULL)
    # A label without rows has no start: anything may be there, and no key is of the label.
    start = tl.minimum(tl.maximum(tl.load(starts + label), 0), num_rows)
    place = start + tl.arange(0, MEMBERS)
    row = tl.load(keys + place, mask=place < num_rows, other=-1) - lowest
    is_member = (row >= 0) & (row < num_rows)
    found = tl.max(is_member.to(tl.int32), 0)
    while found > 0:
        place += MEMBERS
        following = tl.load(keys + place, mask=place < num_rows, other=-1) - lowest
        at = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        mask = is_member[:, None] & is_channel[None, :]
        part = tl.load(x + at, mask=mask, other=0).to(FULL)
        if weights is not None:
            weight = tl.load(weights + image * num_rows + row, mask=is_member, other=0).to(FULL)
            part *= weight[:, None]
            total += weight
        else:
            total += is_member.to(FULL)
        sums += part
        row = following
        is_member = (row >= 0) & (row < num_rows)
        found = tl.max(is_member.to(tl.int32), 0)
    result = tl.sum(sums, 0)
    whole = tl.sum(total, 0)
    if MEAN:
        result /= whole
    tl.store(out + label * CHANNELS + channel, result, mask=is_channel)
    tl.store(totals + label, whole)


@triton.jit(do_not_specialize=['num_rows', 'num_labels'])
def _take_kernel(
    tokens,
    labels,
    weights,
    totals,
    out,
    num_rows,
    num_labels,
    CHANNELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if tokens.dtype.element_ty == tl.float64 else tl.float32
    image = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    at = image * num_rows + row
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    mask = is_row[:, None] & (channel < CHANNELS)
    label = image * num_labels + tl.load(labels + at, mask=is_row, other=0)
    found = tl.load(tokens + label[:, None] * CHANNELS + channel, mask=mask, other=0)
    if weights is not None:
        found = found.to(FULL) * tl.load(weights + at, mask=is_row, other=0).to(FULL)[:, None]
    if totals is not None:
        total = tl.load(totals + label, mask=is_row, other=1).to(FULL)
        found = found.to(FULL) / total[:, None]
    tl.store(out + at[:, None] * CHANNELS + channel, found, mask=mask)
