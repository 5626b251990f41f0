"""Rounds of reciprocal nearest neighbours (complete, average) as Triton kernels.

The same rounds as ``torch_rounds.py``, with the loop on the device: a fixed number of wide rounds,
each of three launches that do nothing for images which are done, then one program per image that
goes on until its image is done. The host reads nothing, so a call can be captured in a CUDA graph.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .labels import cut_merges

#: Most merges happen in the first rounds; each costs three launches whether needed or not.
_WIDE_ROUNDS = 24
#: Programs per image of a wide round's merging and scanning.
_PROGRAMS = 528
#: Values that a program takes at a time: at least one per thread, see :func:`_merge`.
_BLOCK = 2048


def round_labels(
    square: Tensor,
    num_clusters: int,
    linkage: str,
    wide_rounds: int = _WIDE_ROUNDS,
    programs: int = _PROGRAMS,
    block: int = _BLOCK,
) -> Tensor:
    """Cluster a batch; the distances are overwritten.

    Args:
        square (Tensor): ``(B, N, N)`` contiguous distances, exactly symmetric and finite, the
            diagonal may be anything; float64 for average linkage, which adds them up.
        num_clusters (int): Clusters per image.
        linkage (str): ``'complete'`` or ``'average'``.
        wide_rounds (int): Rounds over many programs before one program per image takes over.
        programs (int): Programs per image in those rounds.
        block (int): Values that a program takes at a time, a power of two.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    batch, num_tokens, _ = square.shape
    num_merges = num_tokens - num_clusters
    positions = torch.arange(num_tokens, dtype=torch.int32, device=square.device)
    size, nearest, partner = torch.ones_like(positions).repeat(3, batch, 1)
    pairs, stale = positions.repeat(2, batch, 1)
    counts = torch.full((batch, 2), num_tokens, dtype=torch.int32, device=square.device)
    height, merge_height = square.new_full((2, batch, num_tokens), math.inf)
    merge_into = torch.zeros_like(size)

    plan = (size, nearest, height, partner, merge_height, merge_into, pairs, stale, counts)
    merge = (square, size, nearest, height, partner, pairs, counts)
    scan = (square, size, nearest, height, stale, counts)
    wide = (min(programs, num_tokens), batch)
    options = dict(AVERAGE=linkage == 'average', BLOCK=block, num_stages=1)
    with torch.cuda.device_of(square):
        _scan_kernel[wide](*scan, num_tokens, num_warps=8, **options)
        for _ in range(min(wide_rounds, num_merges)):
            _plan_kernel[(batch,)](
                *plan, num_tokens, num_merges, BLOCK=block, num_stages=1, num_warps=8
            )
            _merge_kernel[wide](*merge, num_tokens, num_warps=8, **options)
            _scan_kernel[wide](*scan, num_tokens, num_warps=8, **options)
        _finish_kernel[(batch,)](square, *plan, num_tokens, num_merges, num_warps=16, **options)
    return cut_merges(merge_height, merge_into, num_clusters)


@triton.jit
def _plan(
    size,
    nearest,
    height,
    partner,
    merge_height,
    merge_into,
    pairs,
    stale,
    num_tokens,
    num_merges,
    BLOCK: tl.constexpr,
):
    """Whether an image needs another round; if so its pairs, filed as merges, and stale rows."""
    lanes = tl.arange(0, BLOCK)
    none = float('inf')
    best = tl.full((BLOCK,), none, height.dtype.element_ty)
    best_at = tl.zeros((BLOCK,), tl.int32) + num_tokens
    for start in range(0, num_tokens, BLOCK):
        i = start + lanes
        is_alive = tl.load(size + i, mask=i < num_tokens, other=0) > 0
        value = tl.load(height + i, mask=is_alive, other=none)
        best_at = tl.where(value < best, i, best_at)
        best = tl.minimum(value, best)
    closest, low = _first_lowest(best, best_at, num_tokens)
    high = tl.load(nearest + low, mask=low < num_tokens, other=0)

    # Merges to come do not precede the closest pair of now; among equal heights the pair decides.
    known = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, num_tokens, BLOCK):
        j = start + lanes
        value = tl.load(merge_height + j, mask=j < num_tokens, other=none)
        into = tl.load(merge_into + j, mask=j < num_tokens, other=0)
        precedes = (into < low) | ((into == low) & (j < high))
        known += ((value < closest) | ((value == closest) & (value < none) & precedes)).to(tl.int32)

    is_going = tl.sum(known, 0) < num_merges
    num_pairs = 0
    num_stale = 0
    if is_going:
        for start in range(0, num_tokens, BLOCK):
            i = start + lanes
            is_token = i < num_tokens
            is_alive = tl.load(size + i, mask=is_token, other=0) > 0
            value = tl.load(height + i, mask=is_alive, other=none)
            j = tl.load(nearest + i, mask=is_alive, other=0)
            is_mutual = is_alive & (value < none)
            is_mutual = is_mutual & (tl.load(nearest + j, mask=is_alive, other=0) == i)
            is_low = is_mutual & (i < j)
            tl.store(partner + i, tl.where(is_mutual, j, i), mask=is_token)
            tl.store(pairs + num_pairs + _slots(is_low), i, mask=is_low)
            tl.store(merge_height + j, value, mask=is_low)
            tl.store(merge_into + j, i, mask=is_low)
            num_pairs += tl.sum(is_low.to(tl.int32), 0)
        tl.debug_barrier()
        for start in range(0, num_tokens, BLOCK):
            i = start + lanes
            is_token = i < num_tokens
            members = tl.load(size + i, mask=is_token, other=0)
            mine = tl.load(partner + i, mask=is_token, other=0)
            j = tl.load(nearest + i, mask=is_token, other=0)
            is_lost = tl.load(partner + j, mask=is_token, other=0) != j
            # No pair at all: rounded sums have brought clusters closer, so look at every row again.
            # As a vector: `mask | scalar` is a mask of integers in Triton 3.9's interpreter.
            has_no_pair = tl.zeros_like(i) + num_pairs == 0
            is_stale = is_token & (members > 0) & (mine == i) & (is_lost | has_no_pair)
            tl.store(stale + num_stale + _slots(is_stale), i, mask=is_stale)
            num_stale += tl.sum(is_stale.to(tl.int32), 0)
            # The lower one of a pair writes both sizes; no other lane uses either.
            is_low = is_token & (mine > i)
            joint = members + tl.load(size + mine, mask=is_low, other=0)
            tl.store(size + i, joint, mask=is_low)
            tl.store(size + mine, tl.zeros_like(joint), mask=is_low)
    return num_pairs, num_stale, is_going


@triton.jit
def _slots(mask):
    """Where each true lane goes in a list."""
    return tl.cumsum(mask.to(tl.int32), 0) - 1


@triton.jit
def _first_lowest(values, at, num_tokens):
    """The lowest value and the first of the positions that have it."""
    lowest = tl.min(values, 0)
    return lowest, tl.min(tl.where(values == lowest, at, num_tokens), 0)


@triton.jit
def _merge(
    low,
    square,
    size,
    nearest,
    height,
    partner,
    num_tokens,
    AVERAGE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the row of a pair's cluster, its column where rows are not merged, its neighbour.

    Reads the two rows of the pair, which nobody else writes. In them it writes what is alive and
    reads, across lanes, only columns that are not: no lane sees another's result. That takes a lane
    per thread at least, so that no value is held twice.
    """
    high = tl.load(partner + low)
    row = square + low * num_tokens
    other = square + high * num_tokens
    own = tl.load(size + low)
    best = tl.full((BLOCK,), float('inf'), height.dtype.element_ty)
    best_at = tl.zeros((BLOCK,), tl.int32) + num_tokens
    for start in range(0, num_tokens, BLOCK):
        j = start + tl.arange(0, BLOCK)
        members = tl.load(size + j, mask=j < num_tokens, other=0)
        mate = tl.load(partner + j, mask=j < num_tokens, other=0)
        is_alive = members > 0
        is_pair = is_alive & (mate > j)
        x = tl.load(row + j, mask=is_alive, other=0.0)
        y = tl.load(other + j, mask=is_alive, other=0.0)
        x2 = tl.load(row + mate, mask=is_pair, other=0.0)
        y2 = tl.load(other + mate, mask=is_pair, other=0.0)
        # Symmetric in the two pairs to the last bit, so the matrix stays symmetric.
        if AVERAGE:
            joint = tl.where(is_pair, (x + y2) + (x2 + y), x + y)
            value = joint / (own * tl.maximum(members, 1)).to(tl.float64)
        else:
            joint = tl.maximum(x, y)
            joint = tl.where(is_pair, tl.maximum(joint, tl.maximum(x2, y2)), joint)
            value = joint
        tl.store(row + j, joint, mask=is_alive)
        tl.store(square + j * num_tokens + low, joint, mask=is_alive & (mate == j))
        value = tl.where(is_alive & (j != low), value, float('inf'))
        best_at = tl.where(value < best, j, best_at)
        best = tl.minimum(value, best)
    _store_nearest(low, best, best_at, nearest, height, num_tokens)


@triton.jit
def _scan(i, square, size, nearest, height, num_tokens, AVERAGE: tl.constexpr, BLOCK: tl.constexpr):
    """Find a cluster's nearest one in its row."""
    row = square + i * num_tokens
    own = tl.load(size + i)
    best = tl.full((BLOCK,), float('inf'), height.dtype.element_ty)
    best_at = tl.zeros((BLOCK,), tl.int32) + num_tokens
    for start in range(0, num_tokens, BLOCK):
        j = start + tl.arange(0, BLOCK)
        members = tl.load(size + j, mask=j < num_tokens, other=0)
        is_other = (members > 0) & (j != i)
        value = tl.load(row + j, mask=is_other, other=float('inf'))
        if AVERAGE:
            value = value / (own * tl.maximum(members, 1)).to(tl.float64)
        best_at = tl.where(value < best, j, best_at)
        best = tl.minimum(value, best)
    _store_nearest(i, best, best_at, nearest, height, num_tokens)


@triton.jit
def _store_nearest(i, best, best_at, nearest, height, num_tokens):
    value, j = _first_lowest(best, best_at, num_tokens)
    tl.store(nearest + i, tl.where(j < num_tokens, j, i))
    tl.store(height + i, value)


@triton.jit(do_not_specialize=['num_merges'])
def _plan_kernel(
    size,
    nearest,
    height,
    partner,
    merge_height,
    merge_into,
    pairs,
    stale,
    counts,
    num_tokens,
    num_merges,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(0)
    at = image * num_tokens
    num_pairs, num_stale, _ = _plan(
        size + at,
        nearest + at,
        height + at,
        partner + at,
        merge_height + at,
        merge_into + at,
        pairs + at,
        stale + at,
        num_tokens,
        num_merges,
        BLOCK,
    )
    tl.store(counts + 2 * image, num_pairs)
    tl.store(counts + 2 * image + 1, num_stale)


@triton.jit
def _merge_kernel(
    square,
    size,
    nearest,
    height,
    partner,
    pairs,
    counts,
    num_tokens,
    AVERAGE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1)
    at = image * num_tokens
    square += at.to(tl.int64) * num_tokens
    for k in range(tl.program_id(0), tl.load(counts + 2 * image), tl.num_programs(0)):
        low = tl.load(pairs + at + k)
        _merge(
            low,
            square,
            size + at,
            nearest + at,
            height + at,
            partner + at,
            num_tokens,
            AVERAGE,
            BLOCK,
        )


@triton.jit
def _scan_kernel(
    square,
    size,
    nearest,
    height,
    stale,
    counts,
    num_tokens,
    AVERAGE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1)
    at = image * num_tokens
    square += at.to(tl.int64) * num_tokens
    for k in range(tl.program_id(0), tl.load(counts + 2 * image + 1), tl.num_programs(0)):
        i = tl.load(stale + at + k)
        _scan(i, square, size + at, nearest + at, height + at, num_tokens, AVERAGE, BLOCK)


@triton.jit(do_not_specialize=['num_merges'])
def _finish_kernel(
    square,
    size,
    nearest,
    height,
    partner,
    merge_height,
    merge_into,
    pairs,
    stale,
    counts,
    num_tokens,
    num_merges,
    AVERAGE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All remaining rounds of an image in one program."""
    at = tl.program_id(0) * num_tokens
    square += at.to(tl.int64) * num_tokens
    size += at
    nearest += at
    height += at
    partner += at
    merge_height += at
    merge_into += at
    pairs += at
    stale += at
    is_going = num_merges > 0
    while is_going:
        num_pairs, num_stale, is_going = _plan(
            size,
            nearest,
            height,
            partner,
            merge_height,
            merge_into,
            pairs,
            stale,
            num_tokens,
            num_merges,
            BLOCK,
        )
        tl.debug_barrier()
        for k in range(0, num_pairs):
            low = tl.load(pairs + k)
            _merge(low, square, size, nearest, height, partner, num_tokens, AVERAGE, BLOCK)
        tl.debug_barrier()
        for k in range(0, num_stale):
            i = tl.load(stale + k)
            _scan(i, square, size, nearest, height, num_tokens, AVERAGE, BLOCK)
        tl.debug_barrier()
