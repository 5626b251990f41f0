"""The sum that an output map is, on a GPU: every part is read once, the sum written once.

The gradient of the feature is gathered: each of its tokens adds up the pixels that it has a share
in, in one order, the same in every run. Arithmetic is in float32 (float64 for float64).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_FORWARD = dict(BLOCK_PIXELS=32, BLOCK_CHANNELS=64, num_warps=4)
_BACKWARD = dict(BLOCK_PIXELS=16, BLOCK_CHANNELS=64, num_warps=4)


def forward(
    base: Tensor,
    feature: Tensor | None,
    shape: list[int],
    grid: list[int],
    quads: Tensor | None,
    norm: tuple[Tensor, Tensor, Tensor, Tensor] | None,
    eps: float,
    dtype: torch.dtype,
    options: dict[str, int] = _FORWARD,
) -> Tensor:
    """As :func:`plain.resized_sum`; contiguous, but images of ``base`` may lie apart.

    ``options`` are ``BLOCK_PIXELS``, ``BLOCK_CHANNELS`` (powers of two) and ``num_warps``.
    """
    batch, num_pixels, channels = base.shape
    out = base.new_empty(base.shape, dtype=dtype)
    with torch.cuda.device_of(base):
        _resized_sum_kernel[_blocks(batch, num_pixels, channels, options)](
            *(base, feature, quads, out),
            *(norm or (None, None, None, None)),
            *(eps, base.stride(0), *shape, *grid),
            CHANNELS=channels,
            **options,
        )
    return out


def backward(
    grad: Tensor,
    shape: list[int],
    grid: list[int],
    dtype: torch.dtype,
    options: dict[str, int] = _BACKWARD,
) -> Tensor:
    """Gradient of ``feature``, in ``dtype``, given that of the sum."""
    batch, _, channels = grad.shape
    num_tokens = grid[0] * grid[1]
    out = grad.new_empty(batch, num_tokens, channels, dtype=dtype)
    with torch.cuda.device_of(grad):
        _resized_sum_backward_kernel[_blocks(batch, num_tokens, channels, options)](
            *(grad, out, *shape, *grid),
            # Pixels that a token may have a share in, down and across.
            *(max(2 * shape[axis] // grid[axis], 1) for axis in (0, 1)),
            CHANNELS=channels,
            **options,
        )
    return out


def _blocks(
    batch: int, num_pixels: int, channels: int, options: dict[str, int]
) -> tuple[int, int, int]:
    return (
        triton.cdiv(channels, options['BLOCK_CHANNELS']),
        triton.cdiv(num_pixels, options['BLOCK_PIXELS']),
        batch,
    )


@triton.jit(do_not_specialize=['height', 'width', 'rows', 'columns'])
def _resized_sum_kernel(
    base,
    feature,
    quads,
    out,
    weight,
    bias,
    mean,
    variance,
    eps,
    base_stride,
    height,
    width,
    rows,
    columns,
    CHANNELS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if base.dtype.element_ty == tl.float64 else tl.float32
    channel = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    pixel = tl.program_id(1) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    image = tl.program_id(2).to(tl.int64)
    is_channel = channel < CHANNELS
    mask = (pixel < height * width)[:, None] & is_channel[None, :]
    at = pixel[:, None] * CHANNELS + channel[None, :]
    y = pixel // width
    x = pixel % width
    total = tl.load(base + image * base_stride + at, mask=mask, other=0).to(FULL)
    if quads is not None:
        block = (y // 2) * (width // 2) + x // 2
        block = block * 4 + y % 2 * 2 + x % 2
        of_block = block[:, None] * CHANNELS + channel[None, :]
        quads += image * height * width * CHANNELS
        total += tl.load(quads + of_block, mask=mask, other=0).to(FULL)
    if feature is not None:
        feature += image * rows * columns * CHANNELS
        top, below, share_y = _between(y, height, rows, FULL)
        left, right, share_x = _between(x, width, columns, FULL)
        upper = _mixed(feature, top * columns, left, right, share_x, channel, mask, CHANNELS, FULL)
        lower = _mixed(
            feature, below * columns, left, right, share_x, channel, mask, CHANNELS, FULL
        )
        total += upper + share_y[:, None] * (lower - upper)
    if weight is not None:
        gain = tl.load(variance + channel, mask=is_channel, other=1).to(FULL) + eps
        gain = tl.load(weight + channel, mask=is_channel, other=0).to(FULL) / tl.sqrt(gain)
        centre = tl.load(mean + channel, mask=is_channel, other=0).to(FULL)
        shift = tl.load(bias + channel, mask=is_channel, other=0).to(FULL)
        total = (total - centre[None, :]) * gain[None, :] + shift[None, :]
    tl.store(out + image * height * width * CHANNELS + at, total, mask=mask)


@triton.jit(do_not_specialize=['height', 'width', 'rows', 'columns', 'down', 'across'])
def _resized_sum_backward_kernel(
    grad,
    out,
    height,
    width,
    rows,
    columns,
    down,
    across,
    CHANNELS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    FULL: tl.constexpr = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
    channel = tl.program_id(0) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    token = tl.program_id(1) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    image = tl.program_id(2).to(tl.int64)
    mask = (token < rows * columns)[:, None] & (channel < CHANNELS)[None, :]
    grad += image * height * width * CHANNELS
    row = token // columns
    column = token % columns
    first_y = _first(row, height, rows)
    first_x = _first(column, width, columns)
    total = tl.zeros((BLOCK_PIXELS, BLOCK_CHANNELS), FULL)
    for step in range(0, down * across):
        y = first_y + step // across
        x = first_x + step % across
        share = _share(y, row, height, rows, FULL) * _share(x, column, width, columns, FULL)
        at = (y * width + x)[:, None] * CHANNELS + channel[None, :]
        total += share[:, None] * tl.load(grad + at, mask=mask & (share > 0)[:, None], other=0).to(
            FULL
        )
    at = token[:, None] * CHANNELS + channel[None, :]
    tl.store(out + image * rows * columns * CHANNELS + at, total, mask=mask)


@triton.jit
def _position(y, size, count, FULL: tl.constexpr):
    """Where a pixel of ``size`` lies among the centres of ``count`` tokens, borders clamped."""
    position = (y.to(FULL) + 0.5) * (count.to(FULL) / size.to(FULL)) - 0.5
    return tl.minimum(tl.maximum(position, 0.0), count - 1.0)


@triton.jit
def _between(y, size, count, FULL: tl.constexpr):
    """The tokens to both sides of a pixel, and the share of the second one."""
    position = _position(y, size, count, FULL)
    first = tl.floor(position)
    share = position - first
    first = first.to(tl.int32)
    return first, tl.minimum(first + 1, count - 1), share


@triton.jit
def _mixed(
    feature,
    start,
    left,
    right,
    share,
    channel,
    mask,
    CHANNELS: tl.constexpr,
    FULL: tl.constexpr,
):
    """A row of tokens between two columns."""
    at_left = (start + left)[:, None] * CHANNELS + channel[None, :]
    at_right = (start + right)[:, None] * CHANNELS + channel[None, :]
    first = tl.load(feature + at_left, mask=mask, other=0).to(FULL)
    second = tl.load(feature + at_right, mask=mask, other=0).to(FULL)
    return first + share[:, None] * (second - first)


@triton.jit
def _first(row, size, count):
    """The first pixel less than a token away from a token."""
    scale = size.to(tl.float32) / count.to(tl.float32)
    return (tl.floor((row.to(tl.float32) - 0.5) * scale - 0.5) + 1).to(tl.int32)


@triton.jit
def _share(y, row, size, count, FULL: tl.constexpr):
    """Share of a token in a pixel, 0 beyond the map."""
    share = 1 - tl.abs(_position(y, size, count, FULL) - row)
    return tl.where((y >= 0) & (y < size), tl.maximum(share, 0.0), 0.0)
