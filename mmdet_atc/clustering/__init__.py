"""Exact batched agglomerative clustering; needs nothing of OpenMMLab."""

from .api import agglomerative_clustering, linkage, linkage_clustering
from .finite import NonFiniteError
from .forms import cpp as native  # noqa: F401 (scripts ask it whether it can be compiled)

__all__ = ['NonFiniteError', 'agglomerative_clustering', 'linkage', 'linkage_clustering']
