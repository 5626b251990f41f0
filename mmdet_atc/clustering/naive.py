"""The specification: agglomerative clustering as a loop that reads like its definition.

Slow (cubic); every form must give exactly these labels, ties included. Ties are broken by
lowest distance, then lowest index pair: for complete and average linkage the pair of clusters,
each named by its smallest member; for single linkage the pair of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Half of the squared distance of orthogonal unit vectors of length 2**47, without its last 34
#: bits, is the number 1.
_DROPPED_BITS = 34


def naive_labels(distances: np.ndarray, num_clusters: int, linkage: str) -> np.ndarray:
    """Labels of one image by given distances.

    Args:
        distances (ndarray): ``(N, N)``, symmetric, finite.
        num_clusters (int): Number of clusters, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.

    Returns:
        ndarray: ``(N,)`` int64, clusters numbered by their smallest member.
    """
    return _labels(distances.astype(np.float64), num_clusters, linkage, np.mean)


def cluster_features(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Labels of a batch by the distance of features, in Python's integers.

    Args:
        features (Tensor): ``(B, N, C)``, any float dtype, finite.
        num_clusters (int): Number of clusters, in ``1 .. N``.
        linkage (str): Linkage.

    Returns:
        Tensor: ``(B, N)`` int64, clusters numbered by their smallest member.
    """
    labels = []
    for image in features.double().tolist():
        squares = _squared_distances([_direction(x) for x in image])
        if linkage != 'average':
            squares >>= _DROPPED_BITS
        labels.append(_labels(squares, num_clusters, linkage, _floored_mean))
    return torch.from_numpy(np.stack(labels))


def _direction(x: list[float]) -> list[int]:
    """A feature's direction in multiples of 2**-47; all zero for a zero vector."""
    exponent = math.frexp(max(map(abs, x)))[1]
    x = [math.ldexp(value, 1 - exponent) for value in x]
    width = 1 << (len(x) - 1).bit_length()
    squares = [value * value for value in x] + [0.0] * (width - len(x))
    while len(squares) > 1:
        half = len(squares) // 2
        squares = [one + other for one, other in zip(squares[:half], squares[half:])]
    norm = math.sqrt(squares[0])
    return [math.floor(value / norm * 2**47 + 0.5) if norm else 0 for value in x]


def _squared_distances(directions: list[list[int]]) -> np.ndarray:
    """``(N, N)`` of Python's integers."""

    def square(q: list[int], r: list[int]) -> int:
        if any(q) and any(r):
            return sum((x - y) ** 2 for x, y in zip(q, r))
        return 2**95

    return np.array([[square(q, r) for r in directions] for q in directions], dtype=object)


def _floored_mean(squares: np.ndarray) -> int:
    return squares.sum() // (squares.size << _DROPPED_BITS)


def _labels(
    distances: np.ndarray, num_clusters: int, linkage: str, mean: Callable[[np.ndarray], Any]
) -> np.ndarray:
    clusters = {token: [token] for token in range(len(distances))}
    if linkage == 'single':
        _merge_lowest_edges(distances, clusters, num_clusters)
    else:
        reduce = np.max if linkage == 'complete' else mean
        while len(clusters) > num_clusters:
            _, i, j = min(
                (reduce(distances[np.ix_(clusters[i], clusters[j])]), i, j)
                for i in clusters
                for j in clusters
                if i < j
            )
            clusters[i] += clusters.pop(j)
    labels = np.empty(len(distances), dtype=np.int64)
    for label, smallest in enumerate(sorted(clusters)):
        labels[clusters[smallest]] = label
    return labels


def _merge_lowest_edges(
    distances: np.ndarray, clusters: dict[int, list[int]], num_clusters: int
) -> None:
    """Kruskal: the lowest edge between two clusters merges them."""
    owner = list(range(len(distances)))
    rows, cols = np.triu_indices(len(distances), k=1)
    for _, row, col in sorted(zip(distances[rows, cols], rows, cols)):
        if len(clusters) == num_clusters:
            return
        i, j = sorted((owner[row], owner[col]))
        if i != j:
            for token in clusters[j]:
                owner[token] = i
            clusters[i] += clusters.pop(j)
