"""Exact distances, of tokens and of clusters: 61 fraction bits, from whole numbers alone."""

from __future__ import annotations

import triton
import triton.language as tl

from .fixed_point import LIMB, LIMB_MASK
from .group import EXCESS_HIGH, EXCESS_LOW, HEAD, NEXT, NONZERO, SIZE, load_fresh

#: Distance 1.
ONE = tl.constexpr(2**61)


@triton.jit
def token_distances(image, u, v, mask, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """Distances of pairs of tokens: half the squared distance of their directions, rounded down.

    Args:
        u, v: ``(PAIRS,)`` positions; what ``mask`` leaves out gives any value.
    """
    nodes, directions = image.nodes, image.directions
    num_tokens, num_channels = image.num_tokens, image.num_channels
    # Asked for first, so that nothing waits for it later.
    nonzero_u = tl.load(nodes + NONZERO * num_tokens + u, mask=mask, other=0)
    nonzero_v = tl.load(nodes + NONZERO * num_tokens + v, mask=mask, other=0)
    high = tl.zeros((PAIRS,), tl.int64)
    middle = tl.zeros((PAIRS,), tl.int64)
    low = tl.zeros((PAIRS,), tl.int64)
    for start in range(0, num_channels, WIDTH):
        c = start + tl.arange(0, WIDTH)
        inside = mask[:, None] & (c[None, :] < num_channels)
        x = tl.load(directions + u[:, None] * num_channels + c[None, :], mask=inside, other=0)
        y = tl.load(directions + v[:, None] * num_channels + c[None, :], mask=inside, other=0)
        difference = tl.abs(x - y)
        # Below 2**48, so that both halves are narrow and their products exact.
        h = (difference >> 24).to(tl.int32).to(tl.int64)
        l = (difference & 0xFFFFFF).to(tl.int32).to(tl.int64)
        high += tl.sum(h * h, axis=1)
        middle += tl.sum(h * l, axis=1)
        low += tl.sum(l * l, axis=1)
    rest = (low + ((middle & 0x1FF) << 25)) >> 34
    distance = (high << 14) + (middle >> 9) + rest
    # A zero vector has distance 1 to every other.
    return tl.where(nonzero_u * nonzero_v > 0, distance, ONE)


@triton.jit
def mean_distances(image, u, v, mask, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """Mean distances of the members of pairs of clusters, from sums, rounded down.

    Args:
        u, v: ``(PAIRS,)`` clusters by their smallest members.
    """
    nodes, sums = image.nodes, image.directions
    num_tokens, num_channels = image.num_tokens, image.num_channels
    n_u = load_fresh(nodes + SIZE * num_tokens + u, mask, 1)
    n_v = load_fresh(nodes + SIZE * num_tokens + v, mask, 1)
    m_u = load_fresh(nodes + NONZERO * num_tokens + u, mask, 0)
    m_v = load_fresh(nodes + NONZERO * num_tokens + v, mask, 0)
    high_u = load_fresh(nodes + EXCESS_HIGH * num_tokens + u, mask, 0)
    high_v = load_fresh(nodes + EXCESS_HIGH * num_tokens + v, mask, 0)
    low_u = load_fresh(nodes + EXCESS_LOW * num_tokens + u, mask, 0)
    low_v = load_fresh(nodes + EXCESS_LOW * num_tokens + v, mask, 0)
    w0 = tl.zeros((PAIRS,), tl.int64)
    w1 = tl.zeros((PAIRS,), tl.int64)
    w2 = tl.zeros((PAIRS,), tl.int64)
    w3 = tl.zeros((PAIRS,), tl.int64)
    w4 = tl.zeros((PAIRS,), tl.int64)
    for start in range(0, num_channels, WIDTH):
        c = start + tl.arange(0, WIDTH)
        inside = mask[:, None] & (c[None, :] < num_channels)
        x = load_fresh(sums + u[:, None] * num_channels + c[None, :], inside, 0)
        y = load_fresh(sums + v[:, None] * num_channels + c[None, :], inside, 0)
        x0 = (x & LIMB_MASK).to(tl.int32).to(tl.int64)
        x1 = ((x >> LIMB) & LIMB_MASK).to(tl.int32).to(tl.int64)
        x2 = (x >> (2 * LIMB)).to(tl.int32).to(tl.int64)
        y0 = (y & LIMB_MASK).to(tl.int32).to(tl.int64)
        y1 = ((y >> LIMB) & LIMB_MASK).to(tl.int32).to(tl.int64)
        y2 = (y >> (2 * LIMB)).to(tl.int32).to(tl.int64)
        w0 += tl.sum(x0 * y0, axis=1)
        w1 += tl.sum(x0 * y1 + x1 * y0, axis=1)
        w2 += tl.sum(x0 * y2 + x1 * y1 + x2 * y0, axis=1)
        w3 += tl.sum(x1 * y2 + x2 * y1, axis=1)
        w4 += tl.sum(x2 * y2, axis=1)
    pairs = n_u * n_v
    # Twice the sum over all pairs, in digits of 21 bits.
    w0 = m_v * low_u + m_u * low_v - 2 * w0
    w1 = m_v * high_u + m_u * high_v - 2 * w1 + (w0 >> LIMB)
    w2 = (w1 >> LIMB) - 2 * w2
    w3 = (w2 >> LIMB) - 2 * w3
    w4 = (w3 >> LIMB) - 2 * w4 + (pairs << 11)
    upper = (w4 << LIMB) + (w3 & LIMB_MASK)
    lower = (((w2 & LIMB_MASK) << LIMB) + (w1 & LIMB_MASK)) >> 13
    # (upper * 2**29 + lower) / pairs, digit by digit.
    quotient = upper // pairs
    remainder = upper - quotient * pairs
    return (quotient << 29) + ((remainder << 29) + lower) // pairs


@triton.jit
def largest_within(image, u, v, mask, limit, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """Largest distances of members of pairs of clusters; more than the limit where one is."""
    nodes, num_tokens = image.nodes, image.num_tokens
    largest = tl.zeros((PAIRS,), tl.int64)
    a = load_fresh(nodes + HEAD * num_tokens + u, mask, -1)
    b = load_fresh(nodes + HEAD * num_tokens + v, mask, -1)
    going = mask
    while tl.max(going.to(tl.int32), axis=0) > 0:
        distance = token_distances(image, a, b, going, PAIRS, WIDTH)
        largest = tl.where(going, tl.maximum(largest, distance), largest)
        b = load_fresh(nodes + NEXT * num_tokens + b, going, -1)
        is_round = going & (b < 0)
        a = tl.where(is_round, load_fresh(nodes + NEXT * num_tokens + a, is_round, -1), a)
        b = tl.where(is_round, load_fresh(nodes + HEAD * num_tokens + v, is_round, -1), b)
        going &= (a >= 0) & (largest <= limit)
    return largest
