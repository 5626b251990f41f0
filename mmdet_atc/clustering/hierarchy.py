"""One image at a time through SciPy and scikit-learn, which merge in float64."""

from __future__ import annotations

import numpy as np


def scipy_labels(distances: np.ndarray, num_clusters: int, linkage: str) -> np.ndarray:
    """Labels of one image by ``scipy.cluster.hierarchy``.

    Args:
        distances (ndarray): ``(N, N)``, symmetric, finite; the upper triangle is read.
        num_clusters (int): Number of clusters.
        linkage (str): Linkage.

    Returns:
        ndarray: ``(N,)`` int64 in ``0 .. num_clusters - 1``.
    """
    from scipy.cluster.hierarchy import linkage as build_tree

    num_tokens = len(distances)
    if num_clusters == num_tokens:
        return np.arange(num_tokens)
    condensed = distances[np.triu_indices(num_tokens, k=1)].astype(np.float64)
    return _cut(build_tree(condensed, method=linkage), num_tokens, num_clusters)


def _cut(tree: np.ndarray, num_tokens: int, num_clusters: int) -> np.ndarray:
    """Labels after the lowest ``num_tokens - num_clusters`` merges of a linkage matrix."""
    root = np.arange(2 * num_tokens - num_clusters)
    merges = tree[: num_tokens - num_clusters, :2].astype(np.int64)
    for index in range(len(merges) - 1, -1, -1):
        root[merges[index]] = root[num_tokens + index]
    return np.unique(root[:num_tokens], return_inverse=True)[1].astype(np.int64)


def sklearn_labels(distances: np.ndarray, num_clusters: int, linkage: str) -> np.ndarray:
    """Labels of one image by ``sklearn.cluster.AgglomerativeClustering``, the authors' way.

    Arguments and result as :func:`scipy_labels`.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ImportError as error:
        raise ImportError(
            "backend='sklearn' needs scikit-learn: pip install scikit-learn"
        ) from error
    num_tokens = len(distances)
    if num_clusters == num_tokens:
        return np.arange(num_tokens)
    model = AgglomerativeClustering(num_clusters, metric='precomputed', linkage=linkage)
    return model.fit(distances).labels_.astype(np.int64)
