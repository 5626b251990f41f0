"""The pairs of tokens within a limit: tensor cores select, whole numbers decide.

A product of half-precision directions is off by at most ``2**-10 + C * 2**-22``: what it finds
above the limit plus that much is beyond the limit. What is left is computed exactly.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .exact import largest_within, mean_distances, token_distances
from .fixed_point import HALF_SCALE
from .group import (
    DISTANCE,
    ENDS,
    HEIGHT,
    NEARNESS,
    NEVER,
    OWNER,
    POSITION,
    POSITIONS,
    SAMPLES,
    SELECTED,
    load_fresh,
)

#: Of float distances in the sample.
SAMPLE_UNIT = tl.constexpr(2.0**28)
#: More than any sampled distance.
FAR = tl.constexpr(2**30)
#: Of exact distances.
DISTANCE_UNIT = tl.constexpr(2.0**61)


@triton.jit
def add_products(
    cosine, image, i, j, start, ACCURATE: tl.constexpr, HALF_WIDTH: tl.constexpr, STEP: tl.constexpr
):
    """Products of the channels from ``start`` on."""
    c = start + tl.arange(0, STEP)
    rows = i[:, None] * HALF_WIDTH + c[None, :]
    columns = j[:, None] * HALF_WIDTH + c[None, :]
    is_row, is_column = i[:, None] < image.num_tokens, j[:, None] < image.num_tokens
    if ACCURATE:
        x = tl.load(image.single + rows, mask=is_row, other=0.0)
        y = tl.load(image.single + columns, mask=is_column, other=0.0)
        return tl.dot(x, tl.trans(y), cosine, input_precision='tf32x3')
    else:
        x = tl.load(image.half + rows, mask=is_row, other=0.0)
        y = tl.load(image.half + columns, mask=is_column, other=0.0)
        return tl.dot(x, tl.trans(y), cosine)


@triton.jit
def approximate_distances(
    image, i, j, ACCURATE: tl.constexpr, HALF_WIDTH: tl.constexpr, STEP: tl.constexpr
):
    """Distances ``(len(i), len(j))`` from half-precision or, accurate, from split directions."""
    cosine = tl.zeros((i.shape[0], j.shape[0]), tl.float32)
    if HALF_WIDTH == STEP:
        cosine = add_products(cosine, image, i, j, 0, ACCURATE, HALF_WIDTH, STEP)
    else:
        # Unrolled, or with loads that ran ahead, all channels would be in shared memory at once.
        for start in tl.range(0, HALF_WIDTH, STEP, num_stages=1):
            cosine = add_products(cosine, image, i, j, start, ACCURATE, HALF_WIDTH, STEP)
    if ACCURATE:
        return 1 - cosine
    else:
        return 1 - cosine / (HALF_SCALE * HALF_SCALE)


@triton.jit
def sample_nearest(image, HALF_WIDTH: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr):
    """The distance of some tokens, evenly spread, to their nearest neighbours."""
    num_tokens = image.num_tokens
    stride = tl.maximum(num_tokens // SAMPLES, 1)
    columns = tl.cdiv(num_tokens, TILE)
    for job in range(image.program, columns * (SAMPLES // TILE), image.programs):
        s = (job // columns) * TILE + tl.arange(0, TILE)
        i = s * stride
        j = (job % columns) * TILE + tl.arange(0, TILE)
        distance = approximate_distances(image, i, j, False, HALF_WIDTH, STEP)
        is_other = (i[:, None] != j[None, :]) & (j[None, :] < num_tokens)
        distance = tl.where(is_other, tl.maximum(distance, 0.0), 2.0)
        nearness = 0 - (tl.min(distance, axis=1) * SAMPLE_UNIT).to(tl.int64) + FAR
        tl.atomic_max(image.counters + NEARNESS + s, nearness, mask=i < num_tokens, sem='relaxed')


@triton.jit
def sampled_limit(image, share, factor):
    """The distance that a share of the sampled tokens has a neighbour within, times a factor."""
    num_tokens = image.num_tokens
    stride = tl.maximum(num_tokens // SAMPLES, 1)
    s = tl.arange(0, SAMPLES)
    is_sample = s * stride < num_tokens
    count = tl.sum(is_sample.to(tl.int32), axis=0)
    value = (0 - load_fresh(image.counters + NEARNESS + s, is_sample, 0) + FAR).to(tl.int32)
    below = tl.zeros((SAMPLES,), tl.int32)
    for first in range(0, SAMPLES, 32):
        t = first + tl.arange(0, 32)
        nearness = load_fresh(image.counters + NEARNESS + t, t * stride < num_tokens, 0)
        other = (0 - nearness + FAR).to(tl.int32)
        below += tl.sum((other[None, :] < value[:, None]).to(tl.int32), axis=1)
    wanted = tl.minimum((share * count).to(tl.int32), count - 1)
    found = tl.max(tl.where(is_sample & (below <= wanted), value, 0), axis=0)
    return tl.minimum(found.to(tl.float32) / SAMPLE_UNIT * factor + 5e-5, 2.0)


@triton.jit
def write_pairs(image, i, first, is_near, TILE: tl.constexpr):
    """Append the pairs of a tile to the list; of a list that is full, only their number counts.

    A number a row holds its columns as bits, so that a tile asks for its place in the list once:
    programs that ask for every pair wait for each other.

    Args:
        i: ``(TILE,)`` positions of the rows; columns are those from ``first`` on, 64 at most.
        is_near: ``(TILE, TILE)``.
    """
    edges, capacity = image.edges, image.capacity
    counts = tl.sum(is_near.to(tl.int32), axis=1)
    bits = tl.sum(is_near.to(tl.int64) << tl.arange(0, TILE)[None, :].to(tl.int64), axis=1)
    total = tl.sum(counts, axis=0)
    begin = tl.atomic_add(image.counters + SELECTED, total.to(tl.int64), sem='relaxed')
    at = begin + tl.cumsum(counts, axis=0) - counts
    for _ in range(tl.max(counts, axis=0)):
        lowest = bits & (0 - bits)
        # The exponent of a power of two is the number of its bit.
        exponent = (lowest.to(tl.float64).to(tl.int64, bitcast=True) >> 52) & 0x7FF
        ends = (i.to(tl.int64) << POSITION) | (first + exponent - 1023)
        tl.store(edges + ENDS * capacity + at, ends, mask=(bits != 0) & (at < capacity))
        bits ^= lowest
        at += 1


@triton.jit
def select_pairs(
    image,
    threshold,
    LINKAGE: tl.constexpr,
    ACCURATE: tl.constexpr,
    HALF_WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write the pairs whose approximate distance is within a threshold, in any order.

    Of tokens, or, accurate, of the clusters that there are (single linkage: of tokens of different
    trees).

    Rows of tiles of the triangle are taken in twos, the first with the last, so that all twos are
    equally long.
    """
    nodes, num_tokens = image.nodes, image.num_tokens
    tiles = tl.cdiv(num_tokens, TILE)
    # Loads that ran ahead would take the shared memory of another program.
    jobs = tl.cdiv(tiles, 2) * (tiles + 1)
    for job in tl.range(image.program, jobs, image.programs, num_stages=1):
        first = job // (tiles + 1)
        place = job % (tiles + 1)
        is_first = place < tiles - first
        row = tl.where(is_first, first, tiles - 1 - first)
        column = tl.where(is_first, first + place, row + place - (tiles - first))
        # The middle row of an odd number has no partner: nothing twice.
        column = tl.where(is_first | (row != first), column, tiles)
        i = row * TILE + tl.arange(0, TILE)
        j = column * TILE + tl.arange(0, TILE)
        distance = approximate_distances(image, i, j, ACCURATE, HALF_WIDTH, STEP)
        is_near = (distance <= threshold) & (i[:, None] < j[None, :]) & (j[None, :] < num_tokens)
        if tl.max(tl.max(is_near.to(tl.int32), axis=1), axis=0) > 0:
            if ACCURATE:
                if LINKAGE == 'single':
                    rows = load_fresh(nodes + OWNER * num_tokens + i, i < num_tokens, 0)
                    columns = load_fresh(nodes + OWNER * num_tokens + j, j < num_tokens, 0)
                    is_near &= rows[:, None] != columns[None, :]
                else:
                    rows = load_fresh(nodes + HEIGHT * num_tokens + i, i < num_tokens, 0)
                    columns = load_fresh(nodes + HEIGHT * num_tokens + j, j < num_tokens, 0)
                    is_near &= (rows == NEVER)[:, None] & (columns == NEVER)[None, :]
            write_pairs(image, i, column * TILE, is_near, TILE)


@triton.jit
def keep_near(
    image, start, stop, limit, DISTANCES: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr
):
    """Exact distances of a program's share of the selected pairs; those beyond the limit go.

    Args:
        DISTANCES: ``'token'``, ``'mean'`` or ``'largest'``.

    Returns:
        The number of edges that stay, from ``start`` on.
    """
    edges, capacity = image.edges, image.capacity
    kept = 0
    e = start + tl.arange(0, PAIRS)
    upcoming = load_fresh(edges + ENDS * capacity + e, e < stop, 0)
    for _ in range(start, stop, PAIRS):
        is_edge = e < stop
        ends = upcoming
        # The next ones, so that nothing waits for them later: what is kept is written before them.
        e += PAIRS
        upcoming = load_fresh(edges + ENDS * capacity + e, e < stop, 0)
        u = ends >> POSITION
        v = ends & POSITIONS
        if DISTANCES == 'token':
            distance = token_distances(image, u, v, is_edge, PAIRS, WIDTH)
        elif DISTANCES == 'mean':
            distance = mean_distances(image, u, v, is_edge, PAIRS, WIDTH)
        else:
            distance = largest_within(image, u, v, is_edge, limit, PAIRS, WIDTH)
        stays = is_edge & (distance <= limit)
        at = start + kept + tl.cumsum(stays.to(tl.int32), axis=0) - 1
        tl.debug_barrier()
        tl.store(edges + ENDS * capacity + at, ends, mask=stays)
        tl.store(edges + DISTANCE * capacity + at, distance, mask=stays)
        kept += tl.sum(stays.to(tl.int32), axis=0)
    tl.debug_barrier()
    return kept
