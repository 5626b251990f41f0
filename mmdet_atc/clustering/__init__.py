"""Exact batched agglomerative clustering; needs nothing of OpenMMLab."""

from .api import agglomerative_clustering, linkage_clustering

__all__ = ['agglomerative_clustering', 'linkage_clustering']
