"""Equal directions are one cluster from the start: what makes flat images easy."""

from __future__ import annotations

import triton
import triton.language as tl

from .group import (
    EXCESS_HIGH,
    EXCESS_LOW,
    HEIGHT,
    LABEL,
    MATE,
    MERGED,
    NEVER,
    NONZERO,
    OWNER,
    PAIR,
    POSITION,
    SIZE,
    load_fresh,
    share_of,
    wait_for_group,
)


@triton.jit
def merge_equal(
    image,
    slots,
    LINKAGE: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Merge every token into the first with the same direction, at height 0.

    Zero vectors have no direction. A table finds the first by a hash of the direction; whether the
    directions are equal is looked at. Ends with a wait.

    Args:
        slots: Of the table, a power of two of at least twice the tokens; it has room for two.
    """
    nodes, table, directions = image.nodes, image.table, image.directions
    num_tokens, num_channels = image.num_tokens, image.num_channels
    lanes = tl.arange(0, BLOCK)
    rows = tl.arange(0, TOKENS)
    start, stop = share_of(image, slots)
    for s in range(start, stop, BLOCK):
        tl.store(table + s + lanes, tl.zeros((BLOCK,), tl.int64), mask=s + lanes < stop)
        never = tl.full((BLOCK,), NEVER, tl.int64)
        tl.store(table + slots + s + lanes, never, mask=s + lanes < stop)
    first, last = share_of(image, num_tokens)
    for s in range(first, last, TOKENS):
        i = s + rows
        is_token = i < last
        key = tl.zeros((TOKENS,), tl.int64)
        for from_channel in range(0, num_channels, WIDTH):
            c = from_channel + tl.arange(0, WIDTH)
            inside = is_token[:, None] & (c[None, :] < num_channels)
            x = load_fresh(directions + i[:, None] * num_channels + c[None, :], inside, 0)
            key += tl.sum(x * ((c + 1).to(tl.int64) * 0x1E3779B97F4A7C15)[None, :], axis=1)
        tl.store(nodes + LABEL * num_tokens + i, (key ^ (key >> 31)) | 1, mask=is_token)
    wait_for_group(image)
    # At least a lane a thread: two threads that held one lane could see the table differently and
    # go different ways.
    for s in range(first, last, BLOCK):
        i = s + lanes
        is_token = i < last
        pending = is_token & (load_fresh(nodes + NONZERO * num_tokens + i, is_token, 0) > 0)
        pending &= load_fresh(nodes + HEIGHT * num_tokens + i, is_token, 0) == NEVER
        key = load_fresh(nodes + LABEL * num_tokens + i, is_token, 0)
        slot = ((key >> 8) & (slots - 1)).to(tl.int32)
        at = slot
        sought = pending
        while tl.max(pending.to(tl.int32), axis=0) > 0:
            seen = load_fresh(table + slot, pending, 0)
            is_free = pending & (seen == 0)
            asked = table + tl.where(is_free, slot, lanes & (slots - 1))
            got = tl.atomic_cas(asked, tl.where(is_free, 0, -2).to(tl.int64), key, sem='relaxed')
            has_slot = (is_free & ((got == 0) | (got == key))) | (pending & (seen == key))
            at = tl.where(has_slot, slot, at)
            is_taken = pending & (has_slot == 0) & (is_free == 0)
            slot = tl.where(is_taken, (slot + 1) & (slots - 1), slot)
            pending &= has_slot == 0
        tl.atomic_min(table + slots + at, i.to(tl.int64), mask=sought, sem='relaxed')
        place = tl.where(sought, at, -1).to(tl.int64)
        tl.store(nodes + LABEL * num_tokens + i, place, mask=is_token)
    wait_for_group(image)
    found = 0
    for s in range(first, last, TOKENS):
        i = s + rows
        at = load_fresh(nodes + LABEL * num_tokens + i, i < last, -1)
        equal = load_fresh(table + slots + at, at >= 0, NEVER)
        is_equal = (at >= 0) & (equal < i)
        for from_channel in range(0, num_channels, WIDTH):
            c = from_channel + tl.arange(0, WIDTH)
            inside = is_equal[:, None] & (c[None, :] < num_channels)
            x = load_fresh(directions + i[:, None] * num_channels + c[None, :], inside, 0)
            y = load_fresh(directions + equal[:, None] * num_channels + c[None, :], inside, 0)
            is_equal &= tl.max((x != y).to(tl.int32), axis=1) == 0
        zero = tl.zeros((TOKENS,), tl.int64)
        tl.store(nodes + HEIGHT * num_tokens + i, zero, mask=is_equal)
        tl.store(nodes + PAIR * num_tokens + i, (equal << POSITION) | i, mask=is_equal)
        tl.store(nodes + OWNER * num_tokens + i, equal, mask=is_equal)
        if LINKAGE == 'single':
            tl.store(nodes + MATE * num_tokens + i, equal, mask=is_equal)
        one = tl.full((TOKENS,), 1, tl.int64)
        tl.atomic_add(nodes + SIZE * num_tokens + equal, one, mask=is_equal, sem='relaxed')
        found += tl.sum(is_equal.to(tl.int32), axis=0)
    if found > 0:
        tl.atomic_add(image.counters + MERGED, found + tl.zeros((), tl.int64), sem='relaxed')
    wait_for_group(image)
    if LINKAGE == 'average':
        for s in range(first, last, TOKENS):
            i = s + rows
            size = load_fresh(nodes + SIZE * num_tokens + i, i < last, 1)
            grows = size > 1
            for row in tl.static_range(3):
                if row == 0:
                    values = nodes + NONZERO * num_tokens + i
                elif row == 1:
                    values = nodes + EXCESS_HIGH * num_tokens + i
                else:
                    values = nodes + EXCESS_LOW * num_tokens + i
                tl.store(values, load_fresh(values, grows, 0) * size, mask=grows)
            for from_channel in range(0, num_channels, WIDTH):
                c = from_channel + tl.arange(0, WIDTH)
                inside = grows[:, None] & (c[None, :] < num_channels)
                at = directions + i[:, None] * num_channels + c[None, :]
                tl.store(at, load_fresh(at, inside, 0) * size[:, None], mask=inside)
        wait_for_group(image)
