"""Deformable attention on a GPU, forward and backward one Triton kernel each.

A program has some queries of one head, so that neighbouring queries find each other's values in the
cache, and a warp reads a value's channels side by side. Softmax, locations and sums are in float32
(float64 for float64), whatever the dtype of what is read and written.
"""

# Kernels collect the terms of unrolled loops in tuples.
# mypy: disable-error-code="assignment, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Queries of a program, and its warps. Backward, sums across channels need more registers.
_FORWARD = dict(BLOCK_QUERIES=32, num_warps=4)
_BACKWARD = dict(BLOCK_QUERIES=16, num_warps=4)


def forward(
    value: Tensor,
    projections: Tensor,
    reference: Tensor,
    shapes: list[int],
    options: dict[str, int] = _FORWARD,
) -> Tensor:
    """Arguments and result as :func:`plain.deformable_attention`, but ``shapes`` flat; contiguous.

    ``options`` are ``BLOCK_QUERIES`` (a power of two) and ``num_warps``.
    """
    out = value.new_empty(len(value), projections.shape[1], *value.shape[2:])
    _launch(_deform_kernel, (value, projections, reference, out), value, shapes, options)
    return out


def backward(
    value: Tensor,
    projections: Tensor,
    reference: Tensor,
    grad: Tensor,
    shapes: list[int],
    options: dict[str, int] = _BACKWARD,
) -> tuple[Tensor, Tensor]:
    """Gradients of ``value`` and ``projections``, given that of the output.

    Programs add to the gradient of ``value`` in no fixed order, in float32; that of ``projections``
    is the same in every run.
    """
    full = torch.promote_types(value.dtype, torch.float32)
    grad_value = torch.zeros_like(value, dtype=full)
    grad_projections = torch.empty_like(projections)
    tensors = (value, projections, reference, grad, grad_value, grad_projections)
    _launch(_deform_backward_kernel, tensors, value, shapes, options)
    return grad_value.to(value.dtype), grad_projections


def _launch(
    kernel, tensors: tuple[Tensor, ...], value: Tensor, shapes: list[int], options: dict[str, int]
) -> None:
    batch, num_values, heads, channels = value.shape
    num_queries, width = tensors[1].shape[1:]
    levels = len(shapes) // 2
    grid = (heads, triton.cdiv(num_queries, options['BLOCK_QUERIES']), batch)
    with torch.cuda.device_of(value):
        kernel[grid](
            *tensors,
            tuple(shapes),
            num_queries,
            num_values,
            HEADS=heads,
            CHANNELS=channels,
            LEVELS=levels,
            POINTS=width // (3 * heads * levels),
            BLOCK_CHANNELS=triton.next_power_of_2(channels),
            **options,
        )


@triton.jit(do_not_specialize=['shapes', 'num_queries', 'num_values'])
def _deform_kernel(
    value,
    projections,
    reference,
    out,
    shapes,
    num_queries,
    num_values,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    head = tl.program_id(0)
    image = tl.program_id(2).to(tl.int64)
    query = tl.program_id(1) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    is_query = query < num_queries
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    # Beyond the last query or channel: what the last one reads, and nothing is written.
    asks = tl.minimum(query, num_queries - 1)
    reads = channel
    if CHANNELS < BLOCK_CHANNELS:
        reads = tl.minimum(channel, CHANNELS - 1)
    value += image * num_values * (HEADS * CHANNELS) + head * CHANNELS
    projections += image * num_queries * (HEADS * LEVELS * POINTS * 3)
    out += image * num_queries * (HEADS * CHANNELS) + head * CHANNELS

    FULL: tl.constexpr = tl.float64 if value.dtype.element_ty == tl.float64 else tl.float32
    COUNT: tl.constexpr = LEVELS * POINTS
    weights = _weights(projections, asks, head, HEADS, COUNT, FULL)
    total = tl.zeros((BLOCK_QUERIES, BLOCK_CHANNELS), FULL)
    start = 0
    for i in tl.static_range(COUNT):
        height = shapes[i // POINTS * 2]
        width = shapes[i // POINTS * 2 + 1]
        x, y = _location(projections, reference, asks, head, height, width, i, HEADS, COUNT, FULL)
        columns, _, shares_x = _around(x, width)
        rows, _, shares_y = _around(y, height)
        for corner in tl.static_range(4):
            share = shares_y[corner // 2] * weights[i] * shares_x[corner % 2]
            cell = start + rows[corner // 2] * width + columns[corner % 2]
            at = value + cell[:, None] * (HEADS * CHANNELS) + reads
            total += share[:, None] * tl.load(at).to(FULL)
        if i % POINTS == POINTS - 1:
            start += height * width
    at_out = out + query[:, None] * (HEADS * CHANNELS) + channel
    tl.store(at_out, total, mask=is_query[:, None] & (channel < CHANNELS))


@triton.jit(do_not_specialize=['shapes', 'num_queries', 'num_values'])
def _deform_backward_kernel(
    value,
    projections,
    reference,
    grad,
    grad_value,
    grad_projections,
    shapes,
    num_queries,
    num_values,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    head = tl.program_id(0)
    image = tl.program_id(2).to(tl.int64)
    query = tl.program_id(1) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    is_query = query < num_queries
    asks = tl.minimum(query, num_queries - 1)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    is_channel = channel < CHANNELS
    value += image * num_values * (HEADS * CHANNELS) + head * CHANNELS
    grad_value += image * num_values * (HEADS * CHANNELS) + head * CHANNELS
    projections += image * num_queries * (HEADS * LEVELS * POINTS * 3)
    grad_projections += image * num_queries * (HEADS * LEVELS * POINTS * 3)
    grad += image * num_queries * (HEADS * CHANNELS) + head * CHANNELS

    FULL: tl.constexpr = tl.float64 if value.dtype.element_ty == tl.float64 else tl.float32
    COUNT: tl.constexpr = LEVELS * POINTS
    weights = _weights(projections, asks, head, HEADS, COUNT, FULL)
    along = grad + query[:, None] * (HEADS * CHANNELS) + channel
    along = tl.load(along, mask=is_query[:, None] & is_channel, other=0).to(FULL)
    to_offset = grad_projections + _offset_at(query, head, 0, HEADS, COUNT)
    slopes = ()  # of the result along each weight
    mean = tl.zeros((BLOCK_QUERIES,), FULL)
    start = 0
    for i in tl.static_range(COUNT):
        height = shapes[i // POINTS * 2]
        width = shapes[i // POINTS * 2 + 1]
        x, y = _location(projections, reference, asks, head, height, width, i, HEADS, COUNT, FULL)
        columns, are_columns, shares_x = _around(x, width)
        rows, are_rows, shares_y = _around(y, height)
        slope = tl.zeros((BLOCK_QUERIES,), FULL)
        slope_x = tl.zeros((BLOCK_QUERIES,), FULL)
        slope_y = tl.zeros((BLOCK_QUERIES,), FULL)
        for corner in tl.static_range(4):
            share = shares_y[corner // 2] * shares_x[corner % 2]
            is_cell = are_rows[corner // 2] & are_columns[corner % 2] & is_query
            cell = start + rows[corner // 2] * width + columns[corner % 2]
            at = cell[:, None] * (HEADS * CHANNELS) + channel
            is_found = is_cell[:, None] & is_channel
            found = tl.load(value + at, mask=is_found, other=0).to(FULL)
            added = (share * weights[i])[:, None] * along
            tl.atomic_add(grad_value + at, added, mask=is_found, sem='relaxed')
            dot = tl.sum(found * along, 1)
            slope += share * dot
            # An offset counts in cells, as the corners do.
            slope_x += shares_y[corner // 2] * (dot if corner % 2 else -dot)
            slope_y += shares_x[corner % 2] * (dot if corner // 2 else -dot)
        tl.store(to_offset + 2 * i, weights[i] * slope_x, mask=is_query)
        tl.store(to_offset + 2 * i + 1, weights[i] * slope_y, mask=is_query)
        slopes += (slope,)
        mean += weights[i] * slope
        if i % POINTS == POINTS - 1:
            start += height * width
    to_logit = grad_projections + _logit_at(query, head, 0, HEADS, COUNT)
    for i in tl.static_range(COUNT):
        tl.store(to_logit + i, weights[i] * (slopes[i] - mean), mask=is_query)


@triton.jit
def _offset_at(query, head, i, HEADS: tl.constexpr, COUNT: tl.constexpr):
    return query * (HEADS * COUNT * 3) + head * (COUNT * 2) + i * 2


@triton.jit
def _logit_at(query, head, i, HEADS: tl.constexpr, COUNT: tl.constexpr):
    return query * (HEADS * COUNT * 3) + HEADS * (COUNT * 2) + head * COUNT + i


@triton.jit
def _weights(
    projections, query, head, HEADS: tl.constexpr, COUNT: tl.constexpr, FULL: tl.constexpr
):
    """Softmax of the logits of each query, a tuple of ``COUNT`` vectors."""
    at = projections + _logit_at(query, head, 0, HEADS, COUNT)
    logits = ()
    for i in tl.static_range(COUNT):
        logits += (tl.load(at + i).to(FULL),)
    largest = logits[0]
    for i in tl.static_range(1, COUNT):
        largest = tl.maximum(largest, logits[i])
    powers = ()
    for i in tl.static_range(COUNT):
        powers += (tl.exp(logits[i] - largest),)
    total = powers[0]
    for i in tl.static_range(1, COUNT):
        total += powers[i]
    weights = ()
    for i in tl.static_range(COUNT):
        weights += (powers[i] / total,)
    return weights


@triton.jit
def _location(
    projections,
    reference,
    query,
    head,
    height,
    width,
    i: tl.constexpr,
    HEADS: tl.constexpr,
    COUNT: tl.constexpr,
    FULL: tl.constexpr,
):
    """Where a sample lies, in cells from the centre of the first one."""
    offset = projections + _offset_at(query, head, i, HEADS, COUNT)
    x = tl.load(reference + 2 * query).to(FULL) * width + tl.load(offset).to(FULL) - 0.5
    y = tl.load(reference + 2 * query + 1).to(FULL) * height + tl.load(offset + 1).to(FULL) - 0.5
    return x, y


@triton.jit
def _around(x, size):
    """The cells to both sides of a position, whether they exist, and the share of each."""
    # Two cells before the first there is nothing; NaN, too, goes there.
    x = tl.where((x > -1) & (x < size), x, -2.0)
    first = tl.floor(x)
    share = x - first
    first = first.to(tl.int32)
    is_first = first >= 0
    is_second = (first >= -1) & (first < size - 1)
    cells = tl.where(is_first, first, 0), tl.where(is_second, first + 1, 0)
    shares = tl.where(is_first, 1 - share, 0.0), tl.where(is_second, share, 0.0)
    return cells, (is_first, is_second), shares
