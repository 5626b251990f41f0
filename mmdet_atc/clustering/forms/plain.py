"""Plain torch on any device that has float64: exact, readable, one image after the other.

Complete and average linkage merge all reciprocal nearest neighbours of a round at once (Sumengen
et al., *Scaling hierarchical agglomerative clustering to billion-sized datasets*, 2021); single
linkage builds the minimum spanning tree (Borůvka 1926). Why that gives the specification's labels,
ties included: ``docs/clustering.md``. The host waits for the device a few times per round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..distances import GONE, Sums, fixed_point, mean_distances, token_distances
from .labels import number_by_smallest_member

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
    if num_clusters == features.shape[1]:
        return labels + torch.arange(num_clusters, device=labels.device)
    for image, q in enumerate(fixed_point(features.nan_to_num(0, 0, 0))):
        labels[image] = _cut(_merges_of_directions(q, num_clusters, linkage), len(q), num_clusters)
    return labels


def cluster_distances(distances: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by given distances; sums of average linkage are rounded in float64.

    Args:
        distances (Tensor): ``(B, N, N)``, any float dtype; the part above the diagonal is read.
            What is not finite, or too large to be added up, counts as the greatest number that is
            neither.
        num_clusters (int): Clusters per image, in ``1 .. N``.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    labels = torch.zeros(distances.shape[:2], dtype=torch.int64, device=distances.device)
    if num_clusters == distances.shape[1]:
        return labels + torch.arange(num_clusters, device=labels.device)
    greatest = torch.finfo(torch.float64).max
    if linkage == 'average':
        greatest /= distances.shape[1] ** 2
    for image, square in enumerate(distances):
        upper = square.double().triu(1).nan_to_num_(greatest).clamp_(-greatest, greatest)
        square = upper + upper.T
        if linkage == 'single':
            merges = _spanning_tree(square)
        else:
            rows = _Matrix(square, linkage)
            found = _merge_in_rounds(rows, torch.inf, len(square) - num_clusters)
            assert found is not None  # no rounding, nothing unsure
            merges = found
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

    @staticmethod
    def cat(parts: list[_Merges]) -> _Merges:
        fields = zip(*(vars(part).values() for part in parts))
        return _Merges(*(torch.cat(field) for field in fields))


def _merges_of_directions(q: Tensor, num_clusters: int, linkage: str) -> _Merges:
    """At least the ``N - num_clusters`` first merges of directions ``(N, C)``.

    Equal directions merge first, at height 0 and each into the first of them. One of them is enough
    for the rest, unless different directions are at distance 0, too: then the pairs' order counts.
    """
    tokens = torch.arange(len(q), device=q.device)
    first = _first_of_equal(q)
    kept, gone = tokens[first == tokens], tokens[first != tokens]
    equal = _Merges(torch.zeros_like(gone), first[gone], gone)
    if len(kept) < 2:
        return equal
    count = torch.bincount(first, minlength=len(q))[kept]
    num_merges = max(1, len(kept) - num_clusters)  # one tells whether there is a distance of 0
    merges = _merges_of_different(q[kept], count, num_merges, linkage)
    if merges and (merges.height.all() or not len(gone)):
        return _Merges.cat([equal, _Merges(merges.height, kept[merges.low], kept[merges.high])])
    count, num_merges = torch.ones_like(tokens), len(q) - num_clusters
    merges = _merges_of_different(q, count, num_merges, linkage)
    return merges or _merge_one_by_one(_ExactMeans(q, count), GONE, num_merges)


def _first_of_equal(q: Tensor) -> Tensor:
    """The first token of each token's direction, ``(N,)``; zero vectors are equal to none."""
    tokens = torch.arange(len(q), device=q.device)
    index = torch.unique(q, dim=0, return_inverse=True)[1]
    first = torch.full_like(tokens, len(q)).scatter_reduce_(0, index, tokens, 'amin')[index]
    return torch.where(q.any(dim=-1), first, tokens)


def _merges_of_different(q: Tensor, count: Tensor, num_merges: int, linkage: str) -> _Merges | None:
    """Of clusters of ``count`` equal directions ``(N, C)`` each, or None: see below."""
    if linkage == 'single':
        return _spanning_tree(token_distances(q))
    if linkage == 'complete':
        return _merge_in_rounds(_Matrix(token_distances(q), linkage), GONE, num_merges)
    return _merge_in_rounds(_ExactMeans(q, count), GONE, num_merges)


class _Rows(Protocol):
    """The distances of clusters, whatever the linkage.

    Attributes:
        size (Tensor): ``(N,)`` members of each cluster.
        rounding (int): Largest error of a rounded-down mean; neighbours closer than this to the
            nearest make an image ``unsure``.
    """

    size: Tensor
    rounding: int

    def of(self, clusters: Tensor) -> Tensor:
        """``(M, N)`` distances of some clusters ``(M,)`` to all, in memory that may be changed."""

    def between(self, clusters: Tensor, others: Tensor) -> Tensor:
        """``(M,)`` distances of pairs of clusters, ``(M,)`` each."""

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

    def between(self, clusters: Tensor, others: Tensor) -> Tensor:
        entries = self.square[clusters, others]
        return entries / (self.size[clusters] * self.size[others]) if self.is_mean else entries

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

    def between(self, clusters: Tensor, others: Tensor) -> Tensor:
        pairs = (self.sums.at(index[:, None]) for index in (clusters, others))
        return mean_distances(*pairs)[:, 0, 0]

    def merge(self, low: Tensor, high: Tensor) -> None:
        self.sums.merge_(low, high)


def _merge_in_rounds(rows: _Rows, gone: float, num_merges: int) -> _Merges | None:
    """Merge reciprocal nearest neighbours until the first ``num_merges`` merges are known.

    Args:
        rows (_Rows): The distances.
        gone (float): Greater than any distance.
        num_merges (int): Merges that are wanted.

    Returns:
        _Merges | None: ``low`` and ``high`` are the clusters' smallest members. None where a
        cluster's nearest is so little nearer than another that rounding down may change the order
        of merges.
    """
    clusters = _Nearest(rows, gone)
    found: list[_Merges] = []
    while True:
        clusters.look_up()
        if clusters.unsure.any():
            return None
        closest = clusters.height.min()
        known = sum((merges.height < closest).sum() for merges in found)
        if closest == gone or known >= num_merges:
            return _Merges.cat(found)
        found.append(clusters.merge(clusters.reciprocal()))


def _merge_one_by_one(rows: _Rows, gone: float, num_merges: int) -> _Merges:
    """The same for any distances, the closest pair first: ``height`` is the place in that order."""
    clusters = _Nearest(rows, gone)
    found = []
    for _ in range(num_merges):
        clusters.look_up()
        found.append(clusters.merge((clusters.height == clusters.height.min()).nonzero()[0]))
    merges = _Merges.cat(found)
    return _Merges(torch.arange(num_merges, device=merges.low.device), merges.low, merges.high)


class _Nearest:
    """Clusters, named by their smallest member, and the nearest one of each.

    Attributes:
        nearest (Tensor): ``(N,)`` int64, the first of equally near ones.
        height (Tensor): ``(N,)`` its distance; ``gone`` for a cluster that was merged into another.
        unsure (Tensor): ``(N,)`` bool, whether another is farther than the nearest, but not by more
            than ``rows.rounding``.
    """

    def __init__(self, rows: _Rows, gone: float) -> None:
        self.rows, self.gone = rows, gone
        self.tokens = torch.arange(len(rows.size), device=rows.size.device)
        self.nearest = torch.zeros_like(self.tokens)
        self.height = rows.of(self.tokens[:1])[0]
        self.unsure = torch.zeros_like(self.tokens, dtype=torch.bool)
        self.is_alive = ~self.unsure
        self.is_stale = ~self.unsure

    def look_up(self) -> None:
        """Find the nearest of those for whom that is stale."""
        for part in self.tokens[self.is_stale].split(_ROWS):
            rows = self.rows.of(part).masked_fill_(~self.is_alive, self.gone)
            rows.scatter_(1, part[:, None], self.gone)
            height, self.nearest[part] = rows.min(dim=1)
            self.height[part] = height
            if self.rows.rounding:
                beyond = rows - height[:, None]
                is_near = (beyond > 0) & (beyond <= self.rows.rounding) & (rows < self.gone)
                self.unsure[part] = is_near.any(dim=1)

    def reciprocal(self) -> Tensor:
        """The lower ones ``(M,)`` of the pairs that are each other's nearest."""
        is_low = (self.nearest[self.nearest] == self.tokens) & (self.nearest > self.tokens)
        return self.tokens[is_low & (self.height < self.gone)]

    def merge(self, low: Tensor) -> _Merges:
        """Merge clusters ``(M,)`` with their nearest ones, which come after them."""
        high, tokens = self.nearest[low], self.tokens
        merges = _Merges(self.height[low], low, high)
        self.rows.merge(low, high)
        self.is_alive[high] = False
        self.height[high] = self.gone
        self.unsure[high] = False
        is_low, is_high = torch.zeros_like(self.is_alive), torch.zeros_like(self.is_alive)
        is_low[low] = is_high[high] = True
        # A merged cluster that is as near as its lower part was is still the first of the nearest.
        kept = tokens[self.is_alive & ~is_low & is_low[self.nearest]]
        moved = kept[self.rows.between(kept, self.nearest[kept]) != self.height[kept]]
        self.is_stale = (is_low | is_high[self.nearest] | self.unsure) & self.is_alive
        self.is_stale[moved] = True
        if not len(low):  # rounded sums have made a merged cluster nearer than its parts were
            self.is_stale = self.is_alive.clone()
        return merges


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
        edges = _Merges(height, edge // num_tokens, edge % num_tokens)
        found = _Merges.cat([found, edges])
        tree = _components(found, num_tokens)
    return found


def _cut(merges: _Merges, num_tokens: int, num_clusters: int) -> Tensor:
    """Labels ``(N,)`` after the ``N - num_clusters`` first merges of at least so many."""
    order = (merges.low * num_tokens + merges.high).argsort()
    order = order[merges.height[order].argsort(stable=True)][: num_tokens - num_clusters]
    merges = _Merges(merges.height[order], merges.low[order], merges.high[order])
    return number_by_smallest_member(_components(merges, num_tokens))


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
