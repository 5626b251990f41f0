"""Rounds of mutual nearest neighbours on a list of edges (complete and average linkage).

Both linkages are reducible (Bruynooghe 1977): two clusters that are each other's nearest are merged
by the sequential algorithm too, sooner or later, at that very height. And all that happens within a
limit needs only the pairs of clusters within it: for complete linkage those all of whose pairs of
tokens are within it, for average linkage those one of whose pairs is.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .exact import mean_distances
from .group import (
    BEST,
    BEST_PAIR,
    CLOSEST,
    CLOSEST_PAIR,
    DISTANCE,
    DOUBTS,
    ENDS,
    EXCESS_HIGH,
    EXCESS_LOW,
    HEIGHT,
    LABEL,
    MATE,
    MERGED,
    NEVER,
    NONZERO,
    PAIR,
    POSITION,
    POSITIONS,
    SETTLED,
    SIZE,
    SOURCE,
    UNSURE,
    WORK,
    load_fresh,
    share_of,
    wait_for_group,
)


@triton.jit
def find_nearest(
    image,
    start,
    count,
    limit,
    IS_AVERAGE: tl.constexpr,
    IS_CAREFUL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each cluster's nearest edge, in ``BEST`` and ``BEST_PAIR``; ties by lowest pair.

    Ends with a wait: all programs know them.

    Mean distances are rounded down, so that a merged cluster can be as near as its nearer part
    although the other was up to ``num_tokens`` units farther; where two neighbours are that close,
    an order of merges other than the sequential one could end elsewhere. That is noted in
    ``DOUBTS``, but where ``IS_CAREFUL``.

    Args:
        limit: What lies above it is not among the edges.

    Returns:
        The distance of the closest edge; NEVER if there is none.
    """
    nodes, edges = image.nodes, image.edges
    num_tokens, capacity = image.num_tokens, image.capacity
    best = nodes + BEST * num_tokens
    best_pair = nodes + BEST_PAIR * num_tokens
    lanes = tl.arange(0, BLOCK)
    closest = tl.full((BLOCK,), NEVER, tl.int64)
    for s in range(0, count, BLOCK):
        e = start + s + lanes
        is_edge = s + lanes < count
        ends = tl.load(edges + ENDS * capacity + e, mask=is_edge, other=-1)
        is_live = ends >= 0
        distance = tl.load(edges + DISTANCE * capacity + e, mask=is_live, other=NEVER)
        tl.atomic_min(best + (ends >> POSITION), distance, mask=is_live, sem='relaxed')
        tl.atomic_min(best + (ends & POSITIONS), distance, mask=is_live, sem='relaxed')
        closest = tl.minimum(closest, distance)
    nearer = NEVER - tl.min(closest, axis=0)
    if nearer > 0:
        tl.atomic_max(image.counters + CLOSEST, nearer, sem='relaxed')
    wait_for_group(image)
    lowest = NEVER - tl.load(image.counters + CLOSEST, cache_modifier='.cg')
    for s in range(0, count, BLOCK):
        e = start + s + lanes
        is_edge = s + lanes < count
        ends = tl.load(edges + ENDS * capacity + e, mask=is_edge, other=-1)
        is_live = ends >= 0
        distance = tl.load(edges + DISTANCE * capacity + e, mask=is_live, other=0)
        u = ends >> POSITION
        v = ends & POSITIONS
        farther_u = distance - load_fresh(best + u, is_live, 0)
        farther_v = distance - load_fresh(best + v, is_live, 0)
        tl.atomic_min(best_pair + u, ends, mask=is_live & (farther_u == 0), sem='relaxed')
        tl.atomic_min(best_pair + v, ends, mask=is_live & (farther_v == 0), sem='relaxed')
        if IS_AVERAGE and not IS_CAREFUL:
            doubts = (farther_u > 0) & (farther_u <= num_tokens)
            doubts |= (farther_v > 0) & (farther_v <= num_tokens)
            doubts |= distance + num_tokens > limit
            noted = image.counters + DOUBTS + tl.zeros((BLOCK,), tl.int32)
            tl.store(noted, tl.full((BLOCK,), 1, tl.int64), mask=is_live & doubts)
    wait_for_group(image)
    if image.program == 0:
        tl.store(image.counters + CLOSEST, tl.zeros((), tl.int64))
    return lowest


@triton.jit
def mates_of(image, node, is_node):
    """The cluster that each merges with in this round, or itself.

    It is at the other end of the nearest edge, if that is the nearest of both.
    """
    best_pair = image.nodes + BEST_PAIR * image.num_tokens
    pair = load_fresh(best_pair + node, is_node, NEVER)
    has_edge = is_node & (pair != NEVER)
    other = tl.where(has_edge, (pair >> POSITION) + (pair & POSITIONS) - node, node)
    is_mutual = has_edge & (load_fresh(best_pair + other, has_edge, -1) == pair)
    return tl.where(is_mutual, other, node), pair


@triton.jit
def find_mutual(image, tag, start, count, IS_AVERAGE: tl.constexpr, BLOCK: tl.constexpr):
    """File the merge of every edge that is the nearest of both its clusters, for scans.

    Ends with a wait. For average linkage clusters in doubt (``UNSURE``, see ``scan.py``) wait for
    another round; the lowest of all edges is always the next merge.

    Args:
        tag: The number of the round.

    Returns:
        The distance of the closest edge.
    """
    nodes, edges = image.nodes, image.edges
    num_tokens, capacity = image.num_tokens, image.capacity
    closest = find_nearest(image, start, count, NEVER, IS_AVERAGE, True, BLOCK)
    unsure = nodes + UNSURE * num_tokens
    lanes = tl.arange(0, BLOCK)
    closest_pair = tag * 0 - 1
    if IS_AVERAGE:
        lowest = tl.full((BLOCK,), NEVER, tl.int64)
        for s in range(0, count, BLOCK):
            e = start + s + lanes
            ends = tl.load(edges + ENDS * capacity + e, mask=s + lanes < count, other=-1)
            distance = tl.load(edges + DISTANCE * capacity + e, mask=ends >= 0, other=NEVER)
            is_closest = (ends >= 0) & (distance == closest)
            lowest = tl.minimum(lowest, tl.where(is_closest, ends, NEVER))
        tl.atomic_min(image.counters + CLOSEST_PAIR, tl.min(lowest, axis=0), sem='relaxed')
        wait_for_group(image)
        closest_pair = tl.load(image.counters + CLOSEST_PAIR, cache_modifier='.cg')
    for s in range(0, count, BLOCK):
        e = start + s + lanes
        ends = tl.load(edges + ENDS * capacity + e, mask=s + lanes < count, other=-1)
        is_live = ends >= 0
        u = ends >> POSITION
        v = ends & POSITIONS
        mate, pair = mates_of(image, u, is_live)
        is_mutual = is_live & (mate == v) & (pair == ends)
        if IS_AVERAGE:
            is_sure = load_fresh(unsure + u, is_mutual, 0) != tag
            is_sure &= load_fresh(unsure + v, is_mutual, 0) != tag
            is_mutual &= is_sure | (ends == closest_pair)
        distance = tl.load(edges + DISTANCE * capacity + e, mask=is_mutual, other=0)
        tl.store(nodes + MATE * num_tokens + u, v, mask=is_mutual)
        tl.store(nodes + MATE * num_tokens + v, u, mask=is_mutual)
        tl.store(nodes + HEIGHT * num_tokens + v, distance, mask=is_mutual)
        tl.store(nodes + PAIR * num_tokens + v, ends, mask=is_mutual)
    wait_for_group(image)
    return closest


@triton.jit
def merge_nodes(
    image,
    first,
    last,
    lowest,
    IS_AVERAGE: tl.constexpr,
    IS_FILED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sizes and sums of the clusters ``first .. last`` after a round; forget what was nearest.

    Args:
        lowest: What no later merge lies below.
        IS_FILED: Whether :func:`find_mutual` has filed the round's merges; else they are filed
            here, and ``BEST_PAIR``, which other programs may look at, is forgotten later.

    Returns:
        How many of these clusters were merged into another below ``lowest``, unless filed.
    """
    nodes, sums = image.nodes, image.directions
    num_tokens, num_channels = image.num_tokens, image.num_channels
    lanes = tl.arange(0, BLOCK)
    # A list of the clusters that grow, each with its mate; labels are needed later.
    grown = nodes + LABEL * num_tokens + first
    found = 0
    settled = 0
    for s in range(first, last, BLOCK):
        i = s + lanes
        is_node = i < last
        never = tl.full((BLOCK,), NEVER, tl.int64)
        if IS_FILED:
            mate = load_fresh(nodes + MATE * num_tokens + i, is_node, 0)
            tl.store(nodes + BEST_PAIR * num_tokens + i, never, mask=is_node)
        else:
            height = load_fresh(nodes + HEIGHT * num_tokens + i, is_node, NEVER)
            settled += tl.sum((height < lowest).to(tl.int32), axis=0)
            mate, pair = mates_of(image, i, is_node)
            goes = is_node & (mate < i)
            height = load_fresh(nodes + BEST * num_tokens + i, goes, 0)
            tl.store(nodes + HEIGHT * num_tokens + i, height, mask=goes)
            tl.store(nodes + PAIR * num_tokens + i, pair, mask=goes)
        tl.store(nodes + BEST * num_tokens + i, never, mask=is_node)
        grows = is_node & (mate > i)
        if IS_AVERAGE:
            place = grown + found + tl.cumsum(grows.to(tl.int32), axis=0) - 1
            tl.store(place, (i.to(tl.int64) << POSITION) | mate, mask=grows)
            for row in tl.static_range(4):
                if row == 0:
                    values = nodes + SIZE * num_tokens
                elif row == 1:
                    values = nodes + NONZERO * num_tokens
                elif row == 2:
                    values = nodes + EXCESS_HIGH * num_tokens
                else:
                    values = nodes + EXCESS_LOW * num_tokens
                own = load_fresh(values + i, grows, 0)
                tl.store(values + i, own + load_fresh(values + mate, grows, 0), mask=grows)
        found += tl.sum(grows.to(tl.int32), axis=0)
    if IS_AVERAGE:
        tl.debug_barrier()
        for s in range(0, found, ROWS):
            lane = s + tl.arange(0, ROWS)
            pair = tl.load(grown + lane, mask=lane < found, other=0)
            i = pair >> POSITION
            mate = pair & POSITIONS
            for start in range(0, num_channels, WIDTH):
                c = start + tl.arange(0, WIDTH)
                inside = (lane < found)[:, None] & (c[None, :] < num_channels)
                own = sums + i[:, None] * num_channels + c[None, :]
                other = sums + mate[:, None] * num_channels + c[None, :]
                total = load_fresh(own, inside, 0) + load_fresh(other, inside, 0)
                tl.store(own, total, mask=inside)
    if found > 0:
        tl.atomic_add(image.counters + MERGED, found + tl.zeros((), tl.int64), sem='relaxed')
    return settled


@triton.jit
def rename_edges(image, tag, slots, start, count, IS_AVERAGE: tl.constexpr, BLOCK: tl.constexpr):
    """Edges of merged clusters become edges of the merged; of twins one stays.

    Up to four edges become the same; a table in which each pair has one slot finds them. For
    complete linkage the slot also collects the largest distance and the number of twins.

    Returns:
        The number of edges that stay, and of those whose distance is to be computed anew.
    """
    edges, table, capacity = image.edges, image.table, image.capacity
    keys = table
    largest = table + slots
    twins = table + 2 * slots
    lanes = tl.arange(0, BLOCK)
    kept = 0
    changed = 0
    for s in range(0, count, BLOCK):
        e = start + s + lanes
        is_edge = s + lanes < count
        ends = tl.load(edges + ENDS * capacity + e, mask=is_edge, other=-1)
        is_live = ends >= 0
        distance = tl.load(edges + DISTANCE * capacity + e, mask=is_live, other=0)
        u = ends >> POSITION
        v = ends & POSITIONS
        mate_u, _ = mates_of(image, u, is_live)
        mate_v, _ = mates_of(image, v, is_live)
        # The edge that made the merge is inside the cluster now.
        is_live &= mate_u != v
        is_touched = is_live & ((mate_u != u) | (mate_v != v))
        new_u = tl.minimum(u, mate_u)
        new_v = tl.minimum(v, mate_v)
        wanted = tl.where(mate_u != u, 2, 1) * tl.where(mate_v != v, 2, 1)
        ends = tl.where(
            is_touched,
            (tl.minimum(new_u, new_v) << POSITION) | tl.maximum(new_u, new_v),
            ends,
        )
        key = ends | (tag << (2 * POSITION))
        slot = (((ends * 0x9E3779B97F4A7C1) >> 20) & (slots - 1)).to(tl.int32)
        is_first = is_touched & False
        at = slot
        pending = is_touched
        while tl.max(pending.to(tl.int32), axis=0) > 0:
            seen = load_fresh(keys + slot, pending, 0)
            is_free = pending & ((seen >> (2 * POSITION)) != tag)
            # The other lanes ask, each another slot, for what no slot holds.
            asked = keys + tl.where(is_free, slot, lanes & (slots - 1))
            got = tl.atomic_cas(asked, tl.where(is_free, seen, -1), key, sem='relaxed')
            won = is_free & (got == seen)
            has_slot = won | (pending & (seen == key)) | (is_free & (got == key))
            is_first |= won
            at = tl.where(has_slot, slot, at)
            is_taken = pending & (has_slot == 0) & (is_free == 0)
            slot = tl.where(is_taken, (slot + 1) & (slots - 1), slot)
            pending &= has_slot == 0
        if not IS_AVERAGE:
            tl.atomic_max(largest + at, distance, mask=is_touched, sem='relaxed')
            one = tl.full((BLOCK,), 1, tl.int64)
            tl.atomic_add(twins + at, one, mask=is_touched, sem='relaxed')
        stays = (is_live & (is_touched == 0)) | is_first
        place = start + kept + tl.cumsum(stays.to(tl.int32), axis=0) - 1
        order = start + changed + tl.cumsum(is_first.to(tl.int32), axis=0) - 1
        tl.debug_barrier()
        tl.store(edges + ENDS * capacity + place, ends, mask=stays)
        tl.store(edges + DISTANCE * capacity + place, distance, mask=stays)
        tl.store(edges + WORK * capacity + order, place, mask=is_first)
        # What the distance is computed from, so that nothing is looked up for it.
        source = ends if IS_AVERAGE else at.to(tl.int64) | (wanted.to(tl.int64) << 32)
        tl.store(edges + SOURCE * capacity + order, source, mask=is_first)
        kept += tl.sum(stays.to(tl.int32), axis=0)
        changed += tl.sum(is_first.to(tl.int32), axis=0)
    return kept, changed


@triton.jit
def renew_distances(
    image,
    slots,
    start,
    changed,
    limit,
    IS_AVERAGE: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Distances of the renamed edges; what is beyond the limit goes."""
    edges, table, capacity = image.edges, image.table, image.capacity
    if IS_AVERAGE:
        for s in range(0, changed, PAIRS):
            w = s + tl.arange(0, PAIRS)
            is_edge = w < changed
            place = tl.load(edges + WORK * capacity + start + w, mask=is_edge, other=0)
            ends = tl.load(edges + SOURCE * capacity + start + w, mask=is_edge, other=0)
            distance = mean_distances(
                image, ends >> POSITION, ends & POSITIONS, is_edge, PAIRS, WIDTH
            )
            tl.store(edges + DISTANCE * capacity + place, distance, mask=is_edge)
            gone = tl.full((PAIRS,), -1, tl.int64)
            tl.store(edges + ENDS * capacity + place, gone, mask=is_edge & (distance > limit))
    else:
        for s in range(0, changed, BLOCK):
            w = s + tl.arange(0, BLOCK)
            is_edge = w < changed
            place = tl.load(edges + WORK * capacity + start + w, mask=is_edge, other=0)
            slot_and_twins = tl.load(edges + SOURCE * capacity + start + w, mask=is_edge, other=0)
            at = slot_and_twins & 0xFFFFFFFF
            distance = load_fresh(table + slots + at, is_edge, 0)
            twins = load_fresh(table + 2 * slots + at, is_edge, 0)
            zero = tl.zeros((BLOCK,), tl.int64)
            tl.store(table + slots + at, zero, mask=is_edge)
            tl.store(table + 2 * slots + at, zero, mask=is_edge)
            tl.store(edges + DISTANCE * capacity + place, distance, mask=is_edge)
            # Where a twin is missing, some pair of tokens is beyond the limit.
            is_far = is_edge & (twins != (slot_and_twins >> 32))
            gone = tl.full((BLOCK,), -1, tl.int64)
            tl.store(edges + ENDS * capacity + place, gone, mask=is_far)
    tl.debug_barrier()


@triton.jit
def forget_mates(image, first, last, BLOCK: tl.constexpr):
    """Of the clusters ``first .. last``, once no program looks at them any more."""
    nodes, num_tokens = image.nodes, image.num_tokens
    for s in range(first, last, BLOCK):
        i = s + tl.arange(0, BLOCK)
        tl.store(nodes + MATE * num_tokens + i, i.to(tl.int64), mask=i < last)


@triton.jit
def forget_pairs(image, first, last, BLOCK: tl.constexpr):
    """The nearest edges of the clusters ``first .. last``, likewise."""
    nodes, num_tokens = image.nodes, image.num_tokens
    for s in range(first, last, BLOCK):
        i = s + tl.arange(0, BLOCK)
        never = tl.full((BLOCK,), NEVER, tl.int64)
        tl.store(nodes + BEST_PAIR * num_tokens + i, never, mask=i < last)


@triton.jit
def merge_near(
    image,
    tag,
    slots,
    start,
    count,
    limit,
    wanted,
    IS_AVERAGE: tl.constexpr,
    PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All merges within the limit, given all pairs of clusters within it, or the lowest of them.

    Args:
        tag: A number below those of the rounds.
        wanted: How many merges are enough, if no later one can lie below them.
    """
    first, last = share_of(image, image.num_tokens)
    merged = tl.load(image.counters + MERGED, cache_modifier='.cg')
    settled = merged * 0
    goes_on = True
    while goes_on:
        tag += 1
        lowest = find_nearest(image, start, count, limit, IS_AVERAGE, False, BLOCK)
        count, changed = rename_edges(image, tag, slots, start, count, IS_AVERAGE, BLOCK)
        own = merge_nodes(image, first, last, lowest, IS_AVERAGE, False, ROWS, WIDTH, BLOCK)
        if own > settled:
            tl.atomic_add(image.counters + SETTLED, own - settled, sem='relaxed')
        settled = own.to(tl.int64)
        wait_for_group(image)
        total = tl.load(image.counters + MERGED, cache_modifier='.cg')
        enough = tl.load(image.counters + SETTLED, cache_modifier='.cg') >= wanted
        goes_on = (total > merged) & (enough == 0)
        merged = total
        forget_pairs(image, first, last, BLOCK)
        renew_distances(image, slots, start, changed, limit, IS_AVERAGE, PAIRS, WIDTH, BLOCK)
