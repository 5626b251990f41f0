"""The programs of one image: how they share its memory, and how they wait for each other.

All programs of an image run at the same time (a cooperative launch), so that they can wait for each
other on a counter in memory. What another program may have changed is read past the L1 cache.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

# Rows of `nodes` (B, NODE_ROWS, N) int64: a node is a token, and the cluster of which it is the
# smallest member.
#: Lowest distance of an edge at a cluster.
BEST = tl.constexpr(0)
#: Lowest pair among its edges of that distance.
BEST_PAIR = tl.constexpr(1)
#: The cluster it merges with in this round, or itself.
MATE = tl.constexpr(2)
#: Single linkage: the root of a token's tree. Complete linkage: a token's cluster, for scans.
OWNER = tl.constexpr(3)
#: Number of members.
SIZE = tl.constexpr(4)
#: Number of members that are no zero vectors.
NONZERO = tl.constexpr(5)
#: Sum of the members' squared norms less one, in two limbs.
EXCESS_HIGH = tl.constexpr(6)
EXCESS_LOW = tl.constexpr(7)
#: Height at which a cluster was merged into another, or NEVER; the pair that did it.
HEIGHT = tl.constexpr(8)
PAIR = tl.constexpr(9)
#: The label of a root.
LABEL = tl.constexpr(10)
#: Complete linkage, for scans: a list of the members of each cluster.
HEAD = tl.constexpr(11)
NEXT = tl.constexpr(12)
#: Average linkage, for scans: the last round in which rounding could make another one as near.
UNSURE = tl.constexpr(13)
NODE_ROWS = tl.constexpr(14)

# Rows of `edges` (B, EDGE_ROWS, CAPACITY) int64.
#: Both ends, packed, or -1 where the edge is gone.
ENDS = tl.constexpr(0)
DISTANCE = tl.constexpr(1)
#: Places of edges whose distance is to be computed anew, and what it is computed from: their ends
#: or, for complete linkage, their slots in the table and the number of twins wanted.
WORK = tl.constexpr(2)
SOURCE = tl.constexpr(3)
EDGE_ROWS = tl.constexpr(4)

# Entries of `counters` (B, COUNTERS) int64, zero at first; those of many writers lie apart.
BARRIER = tl.constexpr(0)
MERGED = tl.constexpr(16)
#: How many merges are filed below all that are still possible.
SETTLED = tl.constexpr(24)
SELECTED = tl.constexpr(32)
#: Whether rounding may decide a merge.
DOUBTS = tl.constexpr(52)
#: How much nearer than NEVER the closest edge is; the lowest pair of that distance, for scans.
CLOSEST = tl.constexpr(56)
CLOSEST_PAIR = tl.constexpr(60)
#: How much nearer than FAR the nearest neighbours of the sampled tokens are.
NEARNESS = tl.constexpr(64)
SAMPLES = tl.constexpr(256)
COUNTERS = tl.constexpr(320)

#: More than any distance, and than any pair.
NEVER = tl.constexpr(2**62 + 2**61)
#: Bits of a position: at most 32,767 tokens an image.
POSITION = tl.constexpr(15)
POSITIONS = tl.constexpr(2**15 - 1)


class Image(NamedTuple):
    """An image's memory and sizes, and which of its programs this is; all are Triton's values.

    Attributes:
        features: ``(N, C)`` float.
        half, single: Directions in float16 and float32, ``(N, HALF_WIDTH)``.
        directions: ``(N, C)`` int64; of clusters for average linkage, the sums of their tokens'.
        nodes: ``(NODE_ROWS, N)`` int64.
        edges: ``(EDGE_ROWS, capacity)`` int64.
        table: int64, for what is looked up by a hash.
        counters: ``(COUNTERS,)`` int64.
        row: ``(N,)`` int64 of this program's own, for complete linkage.
        program, programs: Its number, and how many there are.
        num_tokens, num_channels: N and C.
        capacity: Edges that there is room for.
    """

    features: tl.tensor
    half: tl.tensor
    single: tl.tensor
    directions: tl.tensor
    nodes: tl.tensor
    edges: tl.tensor
    table: tl.tensor
    counters: tl.tensor
    row: tl.tensor
    program: tl.tensor
    programs: tl.tensor
    num_tokens: tl.tensor
    num_channels: tl.tensor
    capacity: tl.tensor


@triton.jit
def wait_for_group(image):
    """All programs of an image have come here, and see what the others wrote before."""
    tl.debug_barrier()
    ticket = tl.atomic_add(image.counters + BARRIER, 1, sem='acq_rel', scope='gpu').to(tl.int32)
    last = (ticket // image.programs + 1) * image.programs
    while tl.atomic_add(image.counters + BARRIER, 0, sem='acquire', scope='gpu') < last:
        pass
    tl.debug_barrier()


@triton.jit
def load_fresh(pointer, mask, other):
    """What any program of the image wrote before the last wait."""
    return tl.load(pointer, mask=mask, other=other, cache_modifier='.cg')


@triton.jit
def share_of(image, total):
    """The part ``start .. stop`` of ``0 .. total`` that is this program's."""
    each = tl.cdiv(total, image.programs)
    start = tl.minimum(image.program * each, total)
    return start, tl.minimum(start + each, total)
