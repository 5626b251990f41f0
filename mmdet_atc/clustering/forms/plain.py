"""Plain torch on any device that has float64: exact, readable, one image after the other.

Complete and average linkage merge all reciprocal nearest neighbours of a round at once (Sumengen et
al., *Scaling hierarchical agglomerative clustering to billion-sized datasets*, 2021); single linkage
builds the minimum spanning tree (Borůvka 1926). Why that gives the specification's labels, ties
included: ``docs/clustering.md``. The host waits for the device a few times per round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..distances import GONE, Sums, fixed_point, mean_distances, token_distances

#: Rows that are looked at in one step.
_ROWS = 256


def cluster_features(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by the distance of :mod:`mmdet_atc.clustering.distances`.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype; what is not finite counts as zero.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    labels = torch.zeros(features.shape[:2], dtype=torch.int64, device=features.device)
    for image, q in enumerate(fixed_point(features.nan_to_num(0, 0, 0))):
        labels[image] = _cut(_merges_of_directions(q, num_clusters, linkage), len(q), num_clusters)
    return labels


def cluster_distances(distances: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by given distances; sums of average linkage are rounded in float64.

    Args:
        distances (Tensor): ``(B, N, N)``, any float dtype, finite; with average linkage so are
            their sums. Only the part above the diagonal is read.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    labels = torch.zeros(distances.shape[:2], dtype=torch.int64, device=distances.device)
    for image, square in enumerate(distances):
        upper = square.double().triu(1)
        square = upper + upper.T
        if linkage == 'single':
            merges = _spanning_tree(square)
        else:
            rows = _Matrix(square, linkage)
            merges = _merge_in_rounds(rows, torch.inf, len(square) - num_clusters)
        labels[image] = _cut(merges, len(square), num_clusters)
    return labels


@dataclass
class _Merges:
    """Merges in any order: ``(M,)`` height, and a token of each of the two clusters, low < high.

    The specification's order is by (height, low, high).
    """

    height: Tensor
    low: Tensor
    high: Tensor

    def cat(self, other: _Merges) -> _Merges:
        pairs = zip(vars(self).values(), vars(other).values())
        return _Merges(*(torch.cat(pair) for pair in pairs))


def _merges_of_directions(q: Tensor, num_clusters: int, linkage: str) -> _Merges:
    """At least the ``N - num_clusters`` first merges of directions ``(N, C)``.

    Equal directions merge first, at height 0 and each into the first of them. One of them is enough
    for the rest, unless different directions are at distance 0, too: then the pairs' order counts.
    """
    tokens = torch.arange(len(q), device=q.device)
    first = _first_of_equal(q)
    kept, gone = tokens[first == tokens], tokens[first != tokens]
    count = torch.bincount(first, minlength=len(q))[kept]
    merges = _merges_of_different(q[kept], count, num_clusters, linkage)
    if len(gone) and not merges.height.all():
        return _merges_of_different(q, torch.ones_like(tokens), num_clusters, linkage)
    merges = _Merges(merges.height, kept[merges.low], kept[merges.high])
    return merges.cat(_Merges(torch.zeros_like(gone), first[gone], gone))


def _first_of_equal(q: Tensor) -> Tensor:
    """The first token of each token's direction, ``(N,)``; zero vectors are equal to none."""
    tokens = torch.arange(len(q), device=q.device)
    index = torch.unique(q, dim=0, return_inverse=True)[1]
    first = torch.full_like(tokens, len(q)).scatter_reduce_(0, index, tokens, 'amin')[index]
    return torch.where(q.any(dim=-1), first, tokens)


def _merges_of_different(q: Tensor, count: Tensor, num_clusters: int, linkage: str) -> _Merges:
    """Of clusters of ``count`` equal tokens each; at least the first one if there is any."""
    num_merges = max(1, len(q) - num_clusters)
    if linkage == 'single':
        return _spanning_tree(token_distances(q))
    if linkage == 'complete':
        return _merge_in_rounds(_Matrix(token_distances(q), linkage), GONE, num_merges)
    return _merge_in_rounds(_ExactMeans(q, count), GONE, num_merges)


class _Rows(Protocol):
    """The distances of clusters, whatever the linkage.

    Attributes:
        size (Tensor): ``(N,)`` members of each cluster.
        rounding (int): By how much rounding down may bring a merged cluster's distance below the
            farther of its parts' and make it equal to the nearer one's.
    """

    size: Tensor
    rounding: int

    def of(self, clusters: Tensor) -> Tensor:
        """``(M, N)`` distances of some clusters ``(M,)`` to all, in memory that may be changed."""

    def merge(self, low: Tensor, high: Tensor) -> None:
        """Merge pairs of clusters, ``(M,)`` each; ``low`` stands for the pair from now on."""


class _Matrix:
    """A matrix ``(N, N)`` of greatest distances, or of sums of distances."""

    rounding = 0

    def __init__(self, square: Tensor, linkage: str) -> None:
        self.square = square
        self.size = square.new_ones(len(square))
        self.is_mean = linkage == 'average'

    def of(self, clusters: Tensor) -> Tensor:
        rows = self.square[clusters]
        return rows / (self.size[clusters, None] * self.size) if self.is_mean else rows

    def merge(self, low: Tensor, high: Tensor) -> None:
        join = torch.add if self.is_mean else torch.maximum
        rows = join(self.square[low], self.square[high])
        # Sums are rounded: only the part above the diagonal, so that the matrix stays symmetric.
        upper = join(rows[:, low], rows[:, high]).triu(1)
        rows[:, low] = upper + upper.T
        self.square[low] = rows
        self.square[:, low] = rows.T
        self.size[low] += self.size[high]


class _ExactMeans:
    """Average linkage of directions: no matrix, rows are computed from sums of directions."""

    def __init__(self, q: Tensor, count: Tensor) -> None:
        self.sums = Sums.of_tokens(q, count)
        self.size = self.sums.size
        self.rounding = int(self.size.sum())

    def of(self, clusters: Tensor) -> Tensor:
        return mean_distances(self.sums.at(clusters), self.sums)

    def merge(self, low: Tensor, high: Tensor) -> None:
        self.sums.merge_(low, high)


def _merge_in_rounds(rows: _Rows, gone: float, num_merges: int) -> _Merges:
    """Merge reciprocal nearest neighbours until the first ``num_merges`` merges are known.

    Args:
        rows (_Rows): The distances.
        gone (float): Greater than any distance.
        num_merges (int): Merges that are wanted.

    Returns:
        _Merges: ``low`` and ``high`` are the clusters' smallest members.
    """
    tokens = torch.arange(len(rows.size), device=rows.size.device)
    is_alive = torch.ones_like(tokens, dtype=torch.bool)
    nearest = torch.zeros_like(tokens)
    unsure = torch.zeros_like(is_alive)
    stale = is_alive.clone()
    height = found = None
    while True:
        for part in tokens[stale].split(_ROWS):
            row = rows.of(part).masked_fill_(~is_alive, gone).scatter_(1, part[:, None], gone)
            lowest, nearest[part] = row.min(dim=1)  # the first of equally near ones
            height = row.new_full(tokens.shape, gone) if height is None else height
            height[part] = lowest
            beyond = (row > lowest[:, None]) & (row <= lowest[:, None] + rows.rounding)
            unsure[part] = (beyond & (row < gone)).any(dim=1)
        height[~is_alive] = gone
        closest = height.min()
        if found is None:
            found = _Merges(height[:0], tokens[:0], tokens[:0])
        if closest == gone or (found.height < closest).sum() >= num_merges:
            return found
        is_low = (nearest[nearest] == tokens) & (nearest > tokens) & is_alive & (height < gone)
        # The first of the closest pairs is always the next merge.
        next_low = (height == closest).nonzero()[0]
        is_sure = ~(unsure | unsure[nearest])
        is_sure[next_low] = True
        low = tokens[is_low & is_sure]
        high = nearest[low]
        found = found.cat(_Merges(height[low], low, high))
        rows.merge(low, high)
        is_alive[high] = False
        is_merged = torch.zeros_like(is_alive)
        is_merged[low] = is_merged[high] = True
        # Without a pair, rounded sums have made a merged cluster nearer than its parts were.
        stale = (is_merged | is_merged[nearest] | unsure | (len(low) == 0)) & is_alive


def _spanning_tree(square: Tensor) -> _Merges:
    """Single linkage: the edges of the minimum spanning tree.

    Edges are ordered by (distance, lower token, higher token), a total order: the tree is unique,
    and its lowest edges give Kruskal's partition.

    Args:
        square (Tensor): ``(N, N)``, symmetric and finite.

    Returns:
        _Merges: ``low`` and ``high`` are tokens.
    """
    num_tokens = len(square)
    tokens = torch.arange(num_tokens, device=square.device)
    gone = GONE if square.dtype == torch.int64 else torch.inf
    tree = tokens  # of each token, named by one of its tokens
    found = _Merges(square.new_empty(0), tokens[:0], tokens[:0])
    while len(found.low) < num_tokens - 1:
        nearest, height = torch.empty_like(tokens), torch.empty_like(square[0])
        for part in tokens.split(_ROWS):
            row = square[part].masked_fill_(tree[part, None] == tree, gone)
            height[part], nearest[part] = row.min(dim=1)
        # Of each tree the lowest edge to another one.
        edge = torch.minimum(tokens, nearest) * num_tokens + torch.maximum(tokens, nearest)
        lowest = torch.full_like(height, gone).scatter_reduce_(0, tree, height, 'amin')
        edge = edge.masked_fill(height > lowest[tree], num_tokens**2)
        edge = torch.full_like(tokens, num_tokens**2).scatter_reduce_(0, tree, edge, 'amin')
        is_tree = edge < num_tokens**2
        edge, index = torch.unique(edge[is_tree], return_inverse=True)
        height = square.new_empty(len(edge)).scatter_(0, index, lowest[is_tree])
        found = found.cat(_Merges(height, edge // num_tokens, edge % num_tokens))
        tree = _components(found, num_tokens)
    return found


def _cut(merges: _Merges, num_tokens: int, num_clusters: int) -> Tensor:
    """Labels ``(N,)`` after the ``N - num_clusters`` first merges of at least so many."""
    order = (merges.low * num_tokens + merges.high).argsort()
    order = order[merges.height[order].argsort(stable=True)][: num_tokens - num_clusters]
    merges = _Merges(merges.height[order], merges.low[order], merges.high[order])
    smallest = _components(merges, num_tokens)
    is_smallest = smallest == torch.arange(num_tokens, device=smallest.device)
    return (is_smallest.cumsum(dim=0) - 1)[smallest]


def _components(merges: _Merges, num_tokens: int) -> Tensor:
    """The smallest token ``(N,)`` of each token's component."""
    owner = torch.arange(num_tokens, device=merges.low.device)
    while True:
        low, high = owner[merges.low], owner[merges.high]
        ends = torch.minimum(low, high), torch.maximum(low, high)
        if torch.equal(*ends):
            return owner
        owner = owner.scatter_reduce(0, ends[1], ends[0], 'amin')
        for _ in range(num_tokens.bit_length()):
            owner = owner[owner]
