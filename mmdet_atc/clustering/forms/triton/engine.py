"""The Triton form: one launch clusters a batch, without the host and without an N x N matrix."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from .cut import label_kernel
from .equal import merge_equal
from .fixed_point import prepare_means, prepare_tokens
from .group import (
    CLOSEST_PAIR,
    COUNTERS,
    DOUBTS,
    EDGE_ROWS,
    MERGED,
    NEVER,
    NODE_ROWS,
    SELECTED,
    SETTLED,
    Image,
    share_of,
    wait_for_group,
)
from .near_pairs import (
    DISTANCE_UNIT,
    keep_near,
    sample_nearest,
    sampled_limit,
    select_pairs,
)
from .rounds import find_mutual, forget_mates, merge_near, merge_nodes
from .scan import count_below, list_members, scan_nearest
from .tree import grow_near, grow_trees

#: Pairs of tokens that an image's list has room for, per token.
PAIRS_PER_TOKEN = 64
#: And in all, where that is more.
ROOM = 2**15
#: More than an attempt's rounds: their numbers differ between attempts.
ROUNDS = tl.constexpr(2**16)
#: Lists of near pairs that are tried, with other limits, before all distances are looked at.
ATTEMPTS = 8


@triton.jit(
    do_not_specialize=[
        'programs',
        'num_tokens',
        'num_clusters',
        'capacity',
        'slots_in_all',
        'slots_for_tokens',
    ]
)
def cluster_kernel(
    features,
    directions,
    half,
    single,
    nodes,
    edges,
    table,
    counters,
    rows,
    programs,
    num_tokens,
    num_channels,
    num_clusters,
    capacity,
    slots_in_all,
    slots_for_tokens,
    share,
    factor,
    half_bound,
    single_bound,
    LINKAGE: tl.constexpr,
    LOG_WIDTH: tl.constexpr,
    HALF_WIDTH: tl.constexpr,
    ATTEMPTS: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    TOKENS: tl.constexpr,
    PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All programs of an image go through this together."""
    IS_AVERAGE: tl.constexpr = LINKAGE == 'average'
    TABLES: tl.constexpr = 3 if LINKAGE == 'complete' else 1
    LATER_DISTANCES: tl.constexpr = (
        'mean' if IS_AVERAGE else 'largest' if LINKAGE == 'complete' else 'token'
    )
    index = (tl.program_id(0) // programs).to(tl.int64)
    program = tl.program_id(0) % programs
    features += index * num_tokens * num_channels
    directions += index * num_tokens * num_channels
    half += index * num_tokens * HALF_WIDTH
    single += index * num_tokens * HALF_WIDTH
    nodes += index * NODE_ROWS * num_tokens
    edges += index * EDGE_ROWS * capacity
    table += index * slots_in_all
    counters += index * COUNTERS
    rows += tl.program_id(0).to(tl.int64) * num_tokens
    image = Image(
        features,
        half,
        single,
        directions,
        nodes,
        edges,
        table,
        counters,
        rows,
        program,
        programs,
        num_tokens,
        num_channels,
        capacity,
    )
    wanted = num_tokens - num_clusters
    lanes = tl.arange(0, BLOCK)

    prepare_tokens(image, LOG_WIDTH, HALF_WIDTH, TOKENS)
    wait_for_group(image)
    sample_nearest(image, HALF_WIDTH, STEP, TILE)
    wait_for_group(image)
    limit = sampled_limit(image, share, factor)
    reached = limit * 0
    attempt = wanted * 0
    merged = wanted.to(tl.int64) * 0
    while (merged < wanted) & (attempt < ATTEMPTS):
        if attempt == 0:
            select_pairs(image, limit + half_bound, LINKAGE, False, HALF_WIDTH, STEP, TILE)
        else:
            # Another limit, for the clusters that there are.
            wait_for_group(image)
            if program == 0:
                tl.store(counters + SELECTED, tl.zeros((), tl.int64))
                tl.store(counters + SETTLED, tl.zeros((), tl.int64))
            if merged == 0:
                merge_equal(image, slots_for_tokens, LINKAGE, TOKENS, WIDTH, BLOCK)
            if IS_AVERAGE:
                prepare_means(image, LOG_WIDTH, HALF_WIDTH, TOKENS)
            if LINKAGE == 'complete':
                list_members(image, BLOCK)
            else:
                wait_for_group(image)
            select_pairs(image, limit + single_bound, LINKAGE, True, HALF_WIDTH, STEP, TILE)
        wait_for_group(image)
        selected = tl.load(counters + SELECTED, cache_modifier='.cg').to(tl.int32)
        if selected > capacity:
            limit = (reached + limit) / 2
        else:
            fixed_limit = (limit.to(tl.float64) * DISTANCE_UNIT).to(tl.int64)
            start, stop = share_of(image, selected)
            count = stop * 0
            if attempt == 0:
                count = keep_near(image, start, stop, fixed_limit, 'token', PAIRS, WIDTH)
            else:
                count = keep_near(image, start, stop, fixed_limit, LATER_DISTANCES, PAIRS, WIDTH)
            if LINKAGE == 'single':
                grow_near(image, start, count, BLOCK)
            else:
                slots = 1024
                while slots <= selected:
                    slots = slots * 2
                first, last = share_of(image, TABLES * slots)
                for s in range(first, last, BLOCK):
                    zero = tl.zeros((BLOCK,), tl.int64)
                    tl.store(table + s + lanes, zero, mask=s + lanes < last)
                merge_near(
                    image,
                    (attempt * ROUNDS).to(tl.int64),
                    slots,
                    start,
                    count,
                    fixed_limit,
                    wanted,
                    IS_AVERAGE,
                    PAIRS,
                    ROWS,
                    WIDTH,
                    BLOCK,
                )
            reached = limit
            limit = tl.minimum(limit * 2, 2.0)
            if num_tokens * (num_tokens - 1) // 2 <= capacity:
                limit = limit * 0 + 2.0
        merged = tl.load(counters + MERGED, cache_modifier='.cg')
        attempt += 1
        if IS_AVERAGE:  # noqa: SIM102  (known when compiled, the other when run)
            if tl.load(counters + DOUBTS, cache_modifier='.cg') > 0:
                # From the start, and carefully.
                wait_for_group(image)
                prepare_tokens(image, LOG_WIDTH, HALF_WIDTH, TOKENS)
                if program == 0:
                    tl.store(counters + MERGED, tl.zeros((), tl.int64))
                wait_for_group(image)
                merged = merged * 0
                attempt = attempt * 0 + ATTEMPTS

    first, last = share_of(image, num_tokens)
    goes_on = merged < wanted
    tag = (attempt * ROUNDS).to(tl.int64)
    while goes_on:
        tag += 1
        wait_for_group(image)
        if program == 0:
            tl.store(counters + CLOSEST_PAIR, tag * 0 + NEVER)
        if LINKAGE == 'complete':
            list_members(image, BLOCK)
        else:
            wait_for_group(image)
        scan_nearest(image, tag, LINKAGE, PAIRS, WIDTH)
        if LINKAGE == 'single':
            grow_trees(image, first, last - first, BLOCK)
            # All of a tree: no other order of edges tells which are the lowest.
            goes_on = tl.load(counters + MERGED, cache_modifier='.cg') < num_tokens - 1
        else:
            lowest = find_mutual(image, tag, first, last - first, IS_AVERAGE, BLOCK)
            merge_nodes(image, first, last, NEVER, IS_AVERAGE, True, ROWS, WIDTH, BLOCK)
            wait_for_group(image)
            forget_mates(image, first, last, BLOCK)
            total = tl.load(counters + MERGED, cache_modifier='.cg')
            # Nothing that is found later lies below this round's lowest distance.
            is_cut = count_below(image, lowest, BLOCK) >= wanted
            goes_on = (total < num_tokens - 1) & (is_cut == 0)


#: Where the first limit comes from: (share of tokens kept, share of the sampled tokens that have a
#: neighbour within the limit, factor), from trained keys (tools/misc/tune_near.py).
FIRST_LIMITS = {
    'single': (
        (0.9, 0.19, 1.0),
        (0.7, 0.44, 1.0),
        (0.5, 0.66, 1.0),
        (0.25, 0.88, 1.0),
        (0.1, 0.96, 1.0),
    ),
    'complete': (
        (0.9, 0.27, 1.0),
        (0.7, 0.66, 1.0),
        (0.5, 0.9, 1.0),
        (0.25, 1.0, 1.13),
        (0.1, 1.0, 2.0),
    ),
    'average': (
        (0.9, 0.26, 1.0),
        (0.7, 0.6, 1.0),
        (0.5, 0.83, 1.0),
        (0.25, 1.0, 0.92),
        (0.1, 1.0, 1.35),
    ),
}


def first_limit(linkage: str, keep_rate: float) -> tuple[float, float]:
    """Share and factor for a keep rate, between those of the two nearest in the table."""
    rates, shares, factors = zip(*reversed(FIRST_LIMITS[linkage]), strict=True)
    return float(np.interp(keep_rate, rates, shares)), float(np.interp(keep_rate, rates, factors))


#: What a program's tiles take: the numbers of values at a time that measured best on an H100.
BLOCKS = dict(TILE=64, STEP=64, TOKENS=16, PAIRS=16, ROWS=16, WIDTH=64, BLOCK=256)
#: Warps of a multiprocessor, and shared memory of a program.
WARPS_PER_PROCESSOR = 8
SHARED_BYTES = 52 * 1024
#: Of a thread, the most that a thread can have: those of eight warps are all of a multiprocessor.
REGISTERS = 255
#: Of an image: more of them wait longer for each other than they save.
MOST_PROGRAMS = 128


def programs_per_image(device: torch.device, batch: int) -> tuple[int, int]:
    """As many as run at the same time, so that they can wait for each other; warps of each.

    Few images leave room for larger programs.
    """
    properties = torch.cuda.get_device_properties(device)
    fit = properties.shared_memory_per_multiprocessor // SHARED_BYTES
    programs = 1
    for warps in (8, 4):
        of_processor = max(1, min(WARPS_PER_PROCESSOR // warps, fit))
        programs = max(1, of_processor * properties.multi_processor_count // batch)
        if programs >= MOST_PROGRAMS:
            return MOST_PROGRAMS, warps
    return programs, 4


def cluster_features(
    features: Tensor,
    num_clusters: int,
    linkage: str,
    programs: int | None = None,
    blocks: dict[str, int] = BLOCKS,
) -> Tensor:
    """As :func:`mmdet_atc.clustering.forms.triton.cluster_features`.

    Args:
        features (Tensor): ``(B, N, C)`` float.
        num_clusters (int): Clusters per image.
        linkage (str): Linkage.
        programs (int, optional): Programs per image. Default: as many as run at the same time.
        blocks (dict): Values at a time.

    Returns:
        Tensor: ``(B, N)`` int64.
    """
    batch, num_tokens, num_channels = features.shape
    device = features.device
    if num_clusters == num_tokens or not batch:
        return torch.arange(num_tokens, device=device).repeat(batch, 1)
    warps = 4
    if programs is None:
        programs, warps = programs_per_image(device, batch)
    if features.dtype != torch.float64:
        # Exact, and one kernel to compile.
        features = features.float()
    else:
        # Squares of narrower types fit in float64 as they are.
        greatest = features.abs().amax(dim=-1, keepdim=True)
        power = greatest / (2 * torch.frexp(greatest).mantissa)
        features = features / torch.where(greatest == 0, 1, power)
    log_width = max(4, (num_channels - 1).bit_length())
    width = 2**log_width
    blocks = {
        **blocks,
        'STEP': min(blocks['STEP'], width),
        'WIDTH': min(blocks['WIDTH'], width),
        'TOKENS': max(1, min(blocks['TOKENS'], 2**11 // width)),
    }
    pairs = num_tokens * (num_tokens - 1) // 2
    capacity = max(PAIRS_PER_TOKEN * num_tokens, min(pairs, ROOM))
    slots_for_tokens = max(1024, 2 * triton.next_power_of_2(num_tokens))
    is_complete = linkage == 'complete'
    slots = (3 if is_complete else 1) * max(1024, 1 << capacity.bit_length())

    def empty(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    labels = empty(batch, num_tokens)
    nodes = empty(batch, NODE_ROWS.value, num_tokens)
    share, factor = first_limit(linkage, num_clusters / num_tokens)
    with torch.cuda.device_of(features):
        cluster_kernel[(batch * programs,)](
            features.contiguous(),
            empty(batch, num_tokens, num_channels),
            empty(batch, num_tokens, width, dtype=torch.float16),
            empty(batch, num_tokens, width, dtype=torch.float32),
            nodes,
            empty(batch, EDGE_ROWS.value, capacity),
            empty(batch, max(slots, 2 * slots_for_tokens)),
            torch.zeros(batch, COUNTERS.value, dtype=torch.int64, device=device),
            empty(batch * programs if is_complete else 1, num_tokens),
            programs,
            num_tokens,
            num_channels,
            num_clusters,
            capacity,
            max(slots, 2 * slots_for_tokens),
            slots_for_tokens,
            share,
            factor,
            2.0**-10 + num_channels * 2.0**-22,
            2.0**-19 + num_channels * 2.0**-21,
            LINKAGE=linkage,
            LOG_WIDTH=log_width,
            HALF_WIDTH=width,
            ATTEMPTS=ATTEMPTS,
            num_warps=warps,
            maxnreg=REGISTERS,
            enable_fp_fusion=False,
            launch_cooperative_grid=programs > 1,
            **blocks,
        )
        label_kernel[(batch,)](
            nodes,
            labels,
            num_tokens,
            num_clusters,
            IS_SINGLE=linkage == 'single',
            NODES=triton.next_power_of_2(num_tokens),
            num_warps=32 if num_tokens > 1024 else 4,
        )
    return labels
