"""The specification: agglomerative clustering as a loop that reads like its definition.

Slow (cubic); every backend must give exactly these labels, ties included. Ties are broken by
lowest distance, then lowest index pair: for complete and average linkage the pair of clusters,
each named by its smallest member; for single linkage the pair of tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def naive_labels(distances: np.ndarray, num_clusters: int, linkage: str) -> np.ndarray:
    """Labels of one image.

    Args:
        distances (ndarray): ``(N, N)``, symmetric, finite.
        num_clusters (int): Number of clusters, in ``1 .. N``.
        linkage (str): ``'single'``, ``'complete'`` or ``'average'``.

    Returns:
        ndarray: ``(N,)`` int64, clusters numbered by their smallest member.
    """
    distances = distances.astype(np.float64)
    clusters = {token: [token] for token in range(len(distances))}
    if linkage == 'single':
        _merge_lowest_edges(distances, clusters, num_clusters)
    else:
        reduce: Any = np.max if linkage == 'complete' else np.mean
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
    for edge in np.lexsort((cols, rows, distances[rows, cols])):
        if len(clusters) == num_clusters:
            return
        i, j = sorted((owner[rows[edge]], owner[cols[edge]]))
        if i != j:
            for token in clusters[j]:
                owner[token] = i
            clusters[i] += clusters.pop(j)
