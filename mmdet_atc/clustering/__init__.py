"""Exact batched agglomerative clustering; needs nothing of OpenMMLab."""

from .api import agglomerative_clustering, linkage, linkage_clustering
from .finite import NonFiniteError
from .forms import cpp as native  # by this name scripts ask whether it can be compiled

__all__ = ['NonFiniteError', 'agglomerative_clustering', 'linkage', 'linkage_clustering', 'native']
