"""Depth-wise convolution of a pyramid of tokens on a GPU: all levels in one launch, as they lie.

Backward, one kernel makes the gradient before GELU and sums for the parameters (a fixed number of
programs, added in one order: the same in every run), and the forward kernel with the weights turned
around makes that of the input. Arithmetic is in float32 (float64 for float64).
"""

# Kernels collect the terms of unrolled loops in tuples.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_FORWARD = dict(BLOCK_TOKENS=64, BLOCK_CHANNELS=32, num_warps=4)
_BACKWARD = dict(BLOCK_TOKENS=16, BLOCK_CHANNELS=32, num_warps=4)
#: Programs of the backward pass: several for each multiprocessor of a large GPU.
_PROGRAMS = 528


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    shapes: list[int],
    options: dict[str, int] = _FORWARD,
) -> Tensor:
    """Arguments and result as :func:`plain.depthwise_gelu`, but ``shapes`` flat; contiguous.

    ``options`` are ``BLOCK_TOKENS``, ``BLOCK_CHANNELS`` (powers of two) and ``num_warps``.
    """
    return _convolved(x, _taps_first(weight), bias, shapes, options)


def backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    grad: Tensor,
    shapes: list[int],
    options: dict[str, int] = _BACKWARD,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``weight`` and ``bias``, given that of the result."""
    batch, num_tokens, channels = x.shape
    blocks = triton.cdiv(num_tokens, options['BLOCK_TOKENS'])
    programs = min(batch * blocks, _PROGRAMS)
    full = torch.promote_types(x.dtype, torch.float32)
    before = torch.empty_like(x)
    taps = _taps_first(weight)
    sums = x.new_empty(programs, 10, channels, dtype=full)
    with torch.cuda.device_of(x):
        _depthwise_backward_kernel[(programs, triton.cdiv(channels, options['BLOCK_CHANNELS']))](
            *(x, taps, bias, grad, before, sums),
            *(tuple(shapes), num_tokens, batch, blocks, programs),
            CHANNELS=channels,
            LEVELS=len(shapes) // 2,
            **options,
        )
    # Each in memory of its own, as torch wants the results of an operator.
    of_weight = sums[:, :9].sum(0).t().reshape(weight.shape).to(weight.dtype)
    of_bias = sums[:, 9].sum(0).to(bias.dtype)
    return _convolved(before, taps, None, shapes, options), of_weight, of_bias


def _taps_first(weight: Tensor) -> Tensor:
    """``(C, 1, 3, 3)`` to ``(9, C)``: a quarter of the loads."""
    return weight.flatten(1).t().contiguous()


def _convolved(
    x: Tensor, taps: Tensor, bias: Tensor | None, shapes: list[int], options: dict[str, int]
) -> Tensor:
    """Forward pass; without ``bias`` that of the gradient: weights turned around, and no GELU."""
    batch, num_tokens, channels = x.shape
    out = torch.empty_like(x)
    grid = (
        triton.cdiv(channels, options['BLOCK_CHANNELS']),
        triton.cdiv(num_tokens, options['BLOCK_TOKENS']),
        batch,
    )
    with torch.cuda.device_of(x):
        _depthwise_kernel[grid](
            *(x, taps, bias, out),
            *(tuple(shapes), num_tokens),
            CHANNELS=channels,
            LEVELS=len(shapes) // 2,
            **options,
        )
    return out


@triton.jit(do_not_specialize=['shapes', 'num_tokens'])
def _depthwise_kernel(
    x,
    taps,
    bias,
    out,
    shapes,
    num_tokens,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    channel = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    token = tl.program_id(1) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    image = tl.program_id(2).to(tl.int64) * num_tokens * CHANNELS
    is_channel = channel < CHANNELS
    mask = (token < num_tokens)[:, None] & is_channel[None, :]
    row, column, height, width = _place(token, shapes, LEVELS)
    total = tl.zeros((BLOCK_TOKENS, BLOCK_CHANNELS), FULL)
    for tap in tl.static_range(9):
        neighbour = _tap(x + image, token, channel, row, column, height, width, mask, tap, CHANNELS)
        at = tap if bias is not None else 8 - tap
        share = tl.load(taps + at * CHANNELS + channel, mask=is_channel, other=0).to(FULL)
        total += neighbour.to(FULL) * share[None, :]
    if bias is not None:
        total += tl.load(bias + channel, mask=is_channel, other=0).to(FULL)[None, :]
        total *= _normal_below(total)
    tl.store(out + image + token[:, None] * CHANNELS + channel[None, :], total, mask=mask)


@triton.jit(do_not_specialize=['shapes', 'num_tokens', 'batch', 'blocks', 'programs'])
def _depthwise_backward_kernel(
    x,
    taps,
    bias,
    grad,
    before,
    sums,
    shapes,
    num_tokens,
    batch,
    blocks,
    programs,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    program = tl.program_id(0)
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    is_channel = channel < CHANNELS
    shift = tl.load(bias + channel, mask=is_channel, other=0).to(FULL)[None, :]
    of_bias = tl.zeros((BLOCK_TOKENS, BLOCK_CHANNELS), FULL)
    of_weight = ()
    for _ in tl.static_range(9):
        of_weight += (of_bias,)
    for block in range(program, batch * blocks, programs):
        token = block % blocks * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
        image = (block // blocks).to(tl.int64) * num_tokens * CHANNELS
        mask = (token < num_tokens)[:, None] & is_channel[None, :]
        row, column, height, width = _place(token, shapes, LEVELS)
        total = tl.zeros((BLOCK_TOKENS, BLOCK_CHANNELS), FULL) + shift
        neighbours = ()
        for tap in tl.static_range(9):
            neighbour = _tap(
                x + image, token, channel, row, column, height, width, mask, tap, CHANNELS
            )
            neighbours += (neighbour,)
            share = tl.load(taps + tap * CHANNELS + channel, mask=is_channel, other=0).to(FULL)
            total += neighbour.to(FULL) * share[None, :]
        at = token[:, None] * CHANNELS + channel[None, :]
        density = tl.exp(-0.5 * total * total) * 0.3989422804014327
        slope = tl.load(grad + image + at, mask=mask, other=0).to(FULL)
        slope *= _normal_below(total) + total * density
        tl.store(before + image + at, slope, mask=mask)
        of_bias += slope
        added = ()
        for tap in tl.static_range(9):
            added += (of_weight[tap] + slope * neighbours[tap].to(FULL),)
        of_weight = added
    to = sums + program * (10 * CHANNELS) + channel
    for tap in tl.static_range(9):
        tl.store(to + tap * CHANNELS, tl.sum(of_weight[tap], 0), mask=is_channel)
    tl.store(to + 9 * CHANNELS, tl.sum(of_bias, 0), mask=is_channel)


@triton.jit
def _place(token, shapes, LEVELS: tl.constexpr):
    """Row and column of tokens in their level, and its height and width."""
    start = 0
    first = tl.zeros_like(token)
    height = first + shapes[0]
    width = first + shapes[1]
    for level in tl.static_range(1, LEVELS):
        start += shapes[2 * level - 2] * shapes[2 * level - 1]
        first = tl.where(token >= start, start, first)
        height = tl.where(token >= start, shapes[2 * level], height)
        width = tl.where(token >= start, shapes[2 * level + 1], width)
    place = token - first
    return place // width, place % width, height, width


@triton.jit
def _tap(
    x,
    token,
    channel,
    row,
    column,
    height,
    width,
    mask,
    tap: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The neighbours of tokens below one of the nine weights, zero outside of their level."""
    down: tl.constexpr = tap // 3 - 1
    right: tl.constexpr = tap % 3 - 1
    is_inside = (row + down >= 0) & (row + down < height)
    is_inside = is_inside & (column + right >= 0) & (column + right < width)
    at = (token + down * width + right)[:, None] * CHANNELS + channel[None, :]
    return tl.load(x + at, mask=mask & is_inside[:, None], other=0)


@triton.jit
def _normal_below(x):
    """Share of the standard normal distribution below a value."""
    return 0.5 * (1 + tl.erf(x * 0.7071067811865476))
