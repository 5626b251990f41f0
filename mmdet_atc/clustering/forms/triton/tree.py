"""Single linkage: Borůvka's rounds on a list of edges.

Every tree takes its lowest edge to another tree; with ties broken by the pair of tokens these are
edges of the one minimum spanning tree, whose lowest are the merges of the sequential algorithm.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .group import (
    BEST,
    BEST_PAIR,
    DISTANCE,
    ENDS,
    HEIGHT,
    MATE,
    MERGED,
    NEVER,
    OWNER,
    PAIR,
    POSITION,
    POSITIONS,
    load_fresh,
    share_of,
    wait_for_group,
)


@triton.jit
def grow_trees(image, start, count, BLOCK: tl.constexpr):
    """One round; ends with a wait.

    Returns:
        How many of the program's edges are between two trees still, from ``start`` on.
    """
    nodes, edges = image.nodes, image.edges
    num_tokens, capacity = image.num_tokens, image.capacity
    best = nodes + BEST * num_tokens
    best_pair = nodes + BEST_PAIR * num_tokens
    owner = nodes + OWNER * num_tokens
    hook = nodes + MATE * num_tokens
    lanes = tl.arange(0, BLOCK)
    kept = 0
    for s in range(0, count, BLOCK):
        is_edge = s + lanes < count
        ends = tl.load(edges + ENDS * capacity + start + s + lanes, mask=is_edge, other=0)
        distance = tl.load(edges + DISTANCE * capacity + start + s + lanes, mask=is_edge, other=0)
        u = load_fresh(owner + (ends >> POSITION), is_edge, 0)
        v = load_fresh(owner + (ends & POSITIONS), is_edge, 0)
        stays = is_edge & (u != v)
        tl.atomic_min(best + u, distance, mask=stays, sem='relaxed')
        tl.atomic_min(best + v, distance, mask=stays, sem='relaxed')
        place = start + kept + tl.cumsum(stays.to(tl.int32), axis=0) - 1
        tl.debug_barrier()
        tl.store(edges + ENDS * capacity + place, ends, mask=stays)
        tl.store(edges + DISTANCE * capacity + place, distance, mask=stays)
        kept += tl.sum(stays.to(tl.int32), axis=0)
    wait_for_group(image)
    for s in range(0, kept, BLOCK):
        is_edge = s + lanes < kept
        ends = tl.load(edges + ENDS * capacity + start + s + lanes, mask=is_edge, other=0)
        distance = tl.load(edges + DISTANCE * capacity + start + s + lanes, mask=is_edge, other=0)
        u = load_fresh(owner + (ends >> POSITION), is_edge, 0)
        v = load_fresh(owner + (ends & POSITIONS), is_edge, 0)
        is_best = is_edge & (load_fresh(best + u, is_edge, 0) == distance)
        tl.atomic_min(best_pair + u, ends, mask=is_best, sem='relaxed')
        is_best = is_edge & (load_fresh(best + v, is_edge, 0) == distance)
        tl.atomic_min(best_pair + v, ends, mask=is_best, sem='relaxed')
    wait_for_group(image)
    first, last = share_of(image, num_tokens)
    found = 0
    for s in range(first, last, BLOCK):
        i = s + lanes
        is_node = i < last
        pair = load_fresh(best_pair + i, is_node, NEVER)
        is_tree = is_node & (pair != NEVER)
        u = load_fresh(owner + (pair >> POSITION), is_tree, 0)
        v = load_fresh(owner + (pair & POSITIONS), is_tree, 0)
        other = tl.where(u == i, v, u)
        # Of two trees that take the same edge the lower stays.
        is_mutual = load_fresh(best_pair + other, is_tree, NEVER) == pair
        hooks = is_tree & ((is_mutual == 0) | (other < i))
        tl.store(hook + i, other, mask=hooks)
        tl.store(nodes + HEIGHT * num_tokens + i, load_fresh(best + i, hooks, 0), mask=hooks)
        tl.store(nodes + PAIR * num_tokens + i, pair, mask=hooks)
        found += tl.sum(hooks.to(tl.int32), axis=0)
    if found > 0:
        tl.atomic_add(image.counters + MERGED, found + tl.zeros((), tl.int64), sem='relaxed')
    wait_for_group(image)
    for s in range(first, last, BLOCK):
        i = s + lanes
        is_node = i < last
        tl.store(best + i, tl.full((BLOCK,), NEVER, tl.int64), mask=is_node)
        tl.store(best_pair + i, tl.full((BLOCK,), NEVER, tl.int64), mask=is_node)
        root = load_fresh(owner + i, is_node, 0)
        above = load_fresh(hook + root, is_node, 0)
        climbs = is_node & (above != root)
        while tl.max(climbs.to(tl.int32), axis=0) > 0:
            root = tl.where(climbs, above, root)
            above = load_fresh(hook + root, climbs, 0)
            climbs &= above != root
        tl.store(owner + i, root, mask=is_node)
    wait_for_group(image)
    return kept


@triton.jit
def grow_near(image, start, count, BLOCK: tl.constexpr):
    """All merges within the limit, given all pairs of tokens within it."""
    merged = tl.load(image.counters + MERGED, cache_modifier='.cg')
    goes_on = True
    while goes_on:
        count = grow_trees(image, start, count, BLOCK)
        total = tl.load(image.counters + MERGED, cache_modifier='.cg')
        goes_on = total > merged
        merged = total
