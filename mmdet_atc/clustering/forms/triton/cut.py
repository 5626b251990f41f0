"""From filed merges to labels."""

from __future__ import annotations

import triton
import triton.language as tl

from .group import HEIGHT, MATE, NEVER, NODE_ROWS, PAIR, POSITION, POSITIONS, load_fresh


@triton.jit
def narrowed(low, high, middle, count, wanted):
    """The range ``low .. high`` of a border, when ``count`` values are not above ``middle``."""
    is_enough = count >= wanted
    above = tl.where(is_enough, low, tl.maximum(low, middle + 1))
    # Exactly as many as are wanted: no need to know where between two values the border is.
    return tl.where(count == wanted, middle, above), tl.where(
        is_enough, tl.minimum(high, middle), high
    )


@triton.jit
def lowest_values(values, is_wanted, wanted):
    """The least number that ``wanted`` of the values are not above, 0 for none."""
    low = tl.min(tl.where(is_wanted, values, NEVER), axis=0)
    high = tl.max(tl.where(is_wanted, values, -1), axis=0)
    # Invariant: fewer than `wanted` are below `low`, at least as many not above `high`. Four counts
    # of up to 2**15 are added up in one number.
    while low < high:
        step = (high - low) // 5
        first = low + step
        second = first + step
        third = second + step
        fourth = third + step
        counts = (is_wanted & (values <= first)).to(tl.int64)
        counts += (is_wanted & (values <= second)).to(tl.int64) << 16
        counts += (is_wanted & (values <= third)).to(tl.int64) << 32
        counts += (is_wanted & (values <= fourth)).to(tl.int64) << 48
        counts = tl.sum(counts, axis=0)
        low, high = narrowed(low, high, first, counts & 0xFFFF, wanted)
        low, high = narrowed(low, high, second, (counts >> 16) & 0xFFFF, wanted)
        low, high = narrowed(low, high, third, (counts >> 32) & 0xFFFF, wanted)
        low, high = narrowed(low, high, fourth, (counts >> 48) & 0xFFFF, wanted)
    return low


@triton.jit
def roots_of(parent):
    """The root of each token's tree, given the next token on the way to it or itself."""
    moves = True
    while moves:
        above = tl.gather(parent, parent, axis=0)
        moves = tl.max((above != parent).to(tl.int32), axis=0) > 0
        parent = above
    return parent


@triton.jit
def label_kernel(
    nodes, labels, num_tokens, num_clusters, IS_SINGLE: tl.constexpr, NODES: tl.constexpr
):
    """Labels after the first merges in the order (height, pair); one program an image.

    Args:
        NODES: The next power of two of the number of tokens.
    """
    image = tl.program_id(0).to(tl.int64)
    nodes += image * NODE_ROWS * num_tokens
    labels += image * num_tokens
    i = tl.arange(0, NODES)
    is_node = i < num_tokens
    height = load_fresh(nodes + HEIGHT * num_tokens + i, is_node, NEVER)
    pair = load_fresh(nodes + PAIR * num_tokens + i, is_node, NEVER)
    is_filed = is_node & (height != NEVER)
    wanted = num_tokens - num_clusters
    border = lowest_values(height, is_filed, wanted)
    is_kept = is_filed & (height <= border)
    excess = tl.sum(is_kept.to(tl.int32), axis=0) - wanted
    if excess > 0:
        ties = is_filed & (height == border)
        last = lowest_values(pair, ties, tl.sum(ties.to(tl.int32), axis=0) - excess)
        is_kept &= (ties == 0) | (pair <= last)
    # Positions are at most 15 bits: as few bytes of shared memory as can be.
    own = i.to(tl.int16)
    lower = tl.where(is_kept, (pair >> POSITION).to(tl.int16), own)
    if IS_SINGLE:
        # The trees of the kept edges: the larger root goes under the smaller.
        parent = nodes + MATE * num_tokens
        upper = tl.where(is_kept, (pair & POSITIONS).to(tl.int16), own)
        owner = own
        grows = True
        while grows:
            u = tl.gather(owner, lower, axis=0)
            v = tl.gather(owner, upper, axis=0)
            is_between = is_kept & (u != v)
            tl.debug_barrier()
            tl.store(parent + i, owner.to(tl.int64), mask=is_node)
            tl.debug_barrier()
            above = tl.minimum(u, v).to(tl.int64)
            tl.atomic_min(parent + tl.maximum(u, v), above, mask=is_between, sem='relaxed')
            tl.debug_barrier()
            owner = load_fresh(parent + i, is_node, 0).to(tl.int16)
            owner = roots_of(tl.where(is_node, owner, own))
            grows = tl.max(is_between.to(tl.int32), axis=0) > 0
    else:
        # A cluster is filed by its smallest member under the other's.
        owner = roots_of(lower)
    number = tl.cumsum((is_node & (owner == own)).to(tl.int32), axis=0) - 1
    label = tl.gather(number.to(tl.int16), owner, axis=0)
    tl.store(labels + i, label.to(tl.int64), mask=is_node)
