"""The last resort: nearest neighbours from all distances, computed again in every round.

For what near pairs do not serve: flat images, ties everywhere, very few clusters. Memory stays
O(N); a round costs all distances once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .exact import mean_distances, token_distances
from .group import (
    DISTANCE,
    ENDS,
    HEAD,
    HEIGHT,
    NEVER,
    NEXT,
    OWNER,
    PAIR,
    POSITION,
    UNSURE,
    load_fresh,
    share_of,
    wait_for_group,
)


@triton.jit
def list_members(image, BLOCK: tl.constexpr):
    """A list of the tokens of each cluster; ends with a wait."""
    nodes, num_tokens = image.nodes, image.num_tokens
    first, last = share_of(image, num_tokens)
    for s in range(first, last, BLOCK):
        i = s + tl.arange(0, BLOCK)
        is_node = i < last
        tl.store(nodes + HEAD * num_tokens + i, tl.full((BLOCK,), -1, tl.int64), mask=is_node)
        root = i.to(tl.int64)
        climbs = is_node & (load_fresh(nodes + HEIGHT * num_tokens + root, is_node, 0) != NEVER)
        while tl.max(climbs.to(tl.int32), axis=0) > 0:
            above = load_fresh(nodes + PAIR * num_tokens + root, climbs, 0) >> POSITION
            root = tl.where(climbs, above, root)
            climbs &= load_fresh(nodes + HEIGHT * num_tokens + root, climbs, NEVER) != NEVER
        tl.store(nodes + OWNER * num_tokens + i, root, mask=is_node)
    wait_for_group(image)
    for s in range(first, last, BLOCK):
        i = s + tl.arange(0, BLOCK)
        is_node = i < last
        root = load_fresh(nodes + OWNER * num_tokens + i, is_node, 0)
        following = tl.atomic_xchg(
            nodes + HEAD * num_tokens + root, i.to(tl.int64), mask=is_node, sem='relaxed'
        )
        tl.store(nodes + NEXT * num_tokens + i, following, mask=is_node)
    wait_for_group(image)


@triton.jit
def largest_distances(image, i, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """Complete linkage's distances of cluster ``i`` to all others, to ``row`` ``(N,)``."""
    nodes, row, num_tokens = image.nodes, image.row, image.num_tokens
    for s in range(0, num_tokens, PAIRS):
        j = s + tl.arange(0, PAIRS)
        tl.store(row + j, tl.zeros((PAIRS,), tl.int64), mask=j < num_tokens)
    tl.debug_barrier()
    member = tl.load(nodes + HEAD * num_tokens + i, cache_modifier='.cg')
    while member >= 0:
        for s in range(0, num_tokens, PAIRS):
            j = s + tl.arange(0, PAIRS)
            is_token = j < num_tokens
            own = tl.zeros((PAIRS,), tl.int64) + member
            distance = token_distances(image, own, j, is_token, PAIRS, WIDTH)
            root = load_fresh(nodes + OWNER * num_tokens + j, is_token, 0)
            tl.atomic_max(row + root, distance, mask=is_token, sem='relaxed')
        member = tl.load(nodes + NEXT * num_tokens + member, cache_modifier='.cg')
    tl.debug_barrier()


@triton.jit
def scan_nearest(image, tag, LINKAGE: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    """An edge to the nearest other cluster, at the place of each cluster of this program.

    For single linkage: to the nearest token of another tree, at the place of each token.
    """
    nodes, edges = image.nodes, image.edges
    num_tokens, capacity = image.num_tokens, image.capacity
    first, last = share_of(image, num_tokens)
    for i in range(first, last):
        is_live = True
        tree = tl.load(nodes + OWNER * num_tokens + i, cache_modifier='.cg')
        if LINKAGE != 'single':
            is_live = tl.load(nodes + HEIGHT * num_tokens + i, cache_modifier='.cg') == NEVER
        best = tl.full((PAIRS,), NEVER, tl.int64)
        second = tl.full((PAIRS,), NEVER, tl.int64)
        nearest = tl.zeros((PAIRS,), tl.int64)
        if is_live:
            if LINKAGE == 'complete':
                largest_distances(image, i, PAIRS, WIDTH)
            for s in range(0, num_tokens, PAIRS):
                j = (s + tl.arange(0, PAIRS)).to(tl.int64)
                own = tl.zeros((PAIRS,), tl.int64) + i
                is_other = (j < num_tokens) & (j != i)
                if LINKAGE == 'single':
                    is_other &= load_fresh(nodes + OWNER * num_tokens + j, is_other, 0) != tree
                    distance = token_distances(image, own, j, is_other, PAIRS, WIDTH)
                else:
                    height = load_fresh(nodes + HEIGHT * num_tokens + j, is_other, 0)
                    is_other &= height == NEVER
                    if LINKAGE == 'complete':
                        distance = load_fresh(image.row + j, is_other, 0)
                    else:
                        distance = mean_distances(image, own, j, is_other, PAIRS, WIDTH)
                # Of equals the first, which makes the lowest pair.
                is_nearer = is_other & (distance < best)
                is_second = is_other & (distance > best) & (distance < second)
                second = tl.where(is_nearer, best, tl.where(is_second, distance, second))
                best = tl.where(is_nearer, distance, best)
                nearest = tl.where(is_nearer, j, nearest)
        least = tl.min(best, axis=0)
        j = tl.min(tl.where(best == least, nearest, NEVER), axis=0)
        ends = (tl.minimum(j, i) << POSITION) | tl.maximum(j, i)
        tl.store(edges + ENDS * capacity + i, tl.where(least == NEVER, -1, ends))
        tl.store(edges + DISTANCE * capacity + i, least)
        if LINKAGE == 'average':
            # As near but for rounding: see rounds.find_mutual.
            doubts = (best > least) & (best <= least + num_tokens)
            doubts |= (second > least) & (second <= least + num_tokens)
            if tl.max(doubts.to(tl.int32), axis=0) > 0:
                tl.store(nodes + UNSURE * num_tokens + i, tag)
        if LINKAGE == 'complete':
            tl.debug_barrier()
    tl.debug_barrier()


@triton.jit
def count_below(image, lowest, BLOCK: tl.constexpr):
    """How many merges are filed below a height."""
    nodes, num_tokens = image.nodes, image.num_tokens
    count = 0
    for s in range(0, num_tokens, BLOCK):
        i = s + tl.arange(0, BLOCK)
        height = load_fresh(nodes + HEIGHT * num_tokens + i, i < num_tokens, NEVER)
        count += tl.sum((height < lowest).to(tl.int32), axis=0)
    return count
