"""Exact batched agglomerative clustering; needs nothing of OpenMMLab."""

from .api import agglomerative_clustering, linkage_clustering
from .finite import NonFiniteError

__all__ = ['NonFiniteError', 'agglomerative_clustering', 'linkage_clustering']
