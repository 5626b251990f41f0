"""Features to fixed-point directions, and what a clustering starts with."""

from __future__ import annotations

import triton
import triton.language as tl

from .group import (
    BEST,
    BEST_PAIR,
    EXCESS_HIGH,
    EXCESS_LOW,
    HEIGHT,
    MATE,
    NEVER,
    NONZERO,
    OWNER,
    PAIR,
    SIZE,
    UNSURE,
    load_fresh,
)

#: Directions are whole multiples of 2**-47.
UNIT = tl.constexpr(2.0**47)
#: Bits of a limb of a sum of directions.
LIMB = tl.constexpr(21)
LIMB_MASK = tl.constexpr(2**21 - 1)
#: What selects is scaled, so that small components are no subnormal numbers in half precision.
HALF_SCALE = tl.constexpr(2.0**8)


@triton.jit
def prepare_tokens(image, LOG_WIDTH: tl.constexpr, HALF_WIDTH: tl.constexpr, TOKENS: tl.constexpr):
    """The definition in ``clustering/distances.py``, step by step; every token is a cluster."""
    nodes, num_tokens, num_channels = image.nodes, image.num_tokens, image.num_channels
    WIDTH: tl.constexpr = 2**LOG_WIDTH
    c = tl.arange(0, WIDTH)
    for block in range(image.program, tl.cdiv(num_tokens, TOKENS), image.programs):
        i = block * TOKENS + tl.arange(0, TOKENS)
        is_token = i < num_tokens
        mask = is_token[:, None] & (c[None, :] < num_channels)
        at = i[:, None] * num_channels + c[None, :]
        x = tl.load(image.features + at, mask=mask, other=0.0).to(tl.float64)
        squares = x * x
        for k in tl.static_range(LOG_WIDTH):
            halves = tl.reshape(squares, (TOKENS, 2, 2 ** (LOG_WIDTH - 1 - k)))
            left, right = tl.split(tl.permute(halves, (0, 2, 1)))
            squares = left + right
        square = tl.reshape(squares, (TOKENS,))
        # What is not finite counts as zero, so that unchecked input cannot keep the device busy.
        is_nonzero = (square > 0) & (square < float('inf'))
        norm = tl.sqrt(tl.where(is_nonzero, square, 1.0))
        unit = tl.where(is_nonzero[:, None], x, 0.0) / norm[:, None]
        fixed = tl.floor(unit * UNIT + 0.5).to(tl.int64)
        tl.store(image.directions + at, fixed, mask=mask)
        narrow = i[:, None] * HALF_WIDTH + c[None, :]
        fits = is_token[:, None] & (c[None, :] < HALF_WIDTH)
        tl.store(image.half + narrow, (unit * HALF_SCALE).to(tl.float16), mask=fits)
        tl.store(image.single + narrow, unit.to(tl.float32), mask=fits)

        # Modulo 2**64 the squared norm is its excess over 2**94.
        excess = tl.sum(fixed * fixed, axis=1)
        never = tl.full((TOKENS,), NEVER, tl.int64)
        tl.store(nodes + BEST * num_tokens + i, never, mask=is_token)
        tl.store(nodes + BEST_PAIR * num_tokens + i, never, mask=is_token)
        tl.store(nodes + HEIGHT * num_tokens + i, never, mask=is_token)
        tl.store(nodes + PAIR * num_tokens + i, never, mask=is_token)
        tl.store(nodes + OWNER * num_tokens + i, i.to(tl.int64), mask=is_token)
        tl.store(nodes + MATE * num_tokens + i, i.to(tl.int64), mask=is_token)
        tl.store(nodes + SIZE * num_tokens + i, tl.full((TOKENS,), 1, tl.int64), mask=is_token)
        tl.store(nodes + NONZERO * num_tokens + i, is_nonzero.to(tl.int64), mask=is_token)
        tl.store(nodes + UNSURE * num_tokens + i, tl.zeros((TOKENS,), tl.int64), mask=is_token)
        tl.store(nodes + EXCESS_HIGH * num_tokens + i, excess >> LIMB, mask=is_token)
        tl.store(nodes + EXCESS_LOW * num_tokens + i, excess & LIMB_MASK, mask=is_token)


@triton.jit
def prepare_means(image, LOG_WIDTH: tl.constexpr, HALF_WIDTH: tl.constexpr, TOKENS: tl.constexpr):
    """Mean directions of clusters in the place of their tokens' directions, for selecting."""
    num_tokens, num_channels = image.num_tokens, image.num_channels
    c = tl.arange(0, 2**LOG_WIDTH)
    for block in range(image.program, tl.cdiv(num_tokens, TOKENS), image.programs):
        i = block * TOKENS + tl.arange(0, TOKENS)
        is_cluster = i < num_tokens
        size = load_fresh(image.nodes + SIZE * num_tokens + i, is_cluster, 1)
        mask = is_cluster[:, None] & (c[None, :] < num_channels)
        total = load_fresh(image.directions + i[:, None] * num_channels + c[None, :], mask, 0)
        mean = total.to(tl.float64) / (size.to(tl.float64) * UNIT)[:, None]
        narrow = i[:, None] * HALF_WIDTH + c[None, :]
        fits = is_cluster[:, None] & (c[None, :] < HALF_WIDTH)
        tl.store(image.single + narrow, mean.to(tl.float32), mask=fits)
