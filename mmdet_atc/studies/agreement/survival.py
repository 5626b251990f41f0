"""Where tokens survive: how the clusters of an image are shared out over its regions."""

from __future__ import annotations

import numpy as np

from .segments import Segments

#: Areas in pixels at which COCO's evaluation parts small, medium and large objects.
_SMALL, _MEDIUM = 32**2, 96**2
#: Every patch belongs to these, in parts.
REGIONS = ('small objects', 'medium objects', 'large objects', 'background', 'void', 'padding')


def region_shares(segments: Segments, patches: np.ndarray) -> np.ndarray:
    """Which part of each patch's pixels each region has.

    Args:
        segments (Segments): Segments of the image.
        patches (ndarray): Their :func:`~mmdet_atc.studies.agreement.segments.patch_overlap`,
            ``(patches, columns)``.

    Returns:
        ndarray: ``(patches, 6)`` float64 in the order of :data:`REGIONS`, rows sum to one. A patch
        without pixels is padding.
    """
    size = np.digitize(segments.areas, [_SMALL, _MEDIUM])
    columns = np.concatenate([[3], size, [4]]).astype(np.int64)
    counts = np.zeros((len(patches), len(REGIONS)))
    np.add.at(counts.T, columns, patches.T)
    counts[counts.sum(axis=1) == 0, 5] = 1
    return counts / counts.sum(axis=1, keepdims=True)


def tokens_per_region(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tokens of each region: a cluster is split among the regions as its patches are.

    Args:
        shares (ndarray): What :func:`region_shares` returns, ``(patches, regions)``.
        labels (ndarray): Cluster of each patch, any shape, int, values ``0 .. K - 1``.

    Returns:
        ndarray: ``(regions,)`` float64, sums to K.
    """
    labels = labels.reshape(-1)
    return (shares / np.bincount(labels)[labels][:, None]).sum(axis=0)


def cluster_sizes(shares: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """How many clusters there are of each size.

    Args:
        shares (ndarray): What :func:`region_shares` returns, ``(patches, regions)``.
        labels (ndarray): Cluster of each patch, any shape, int, values ``0 .. K - 1``.

    Returns:
        tuple: Clusters by size, ``(n,)`` int64: entry i counts those of ``2**i`` to
        ``2**(i + 1) - 1`` patches; and the number of clusters of padding alone, which the former
        does not count.
    """
    labels = labels.reshape(-1)
    sizes = np.bincount(labels)
    padding = np.bincount(labels, shares[:, REGIONS.index('padding')]) == sizes
    bins = np.frexp(sizes[~padding])[1] - 1
    return np.bincount(bins, minlength=1), int(padding.sum())
