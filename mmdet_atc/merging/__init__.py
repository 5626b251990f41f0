"""Token merging: from attention keys to clusters, and between clusters and the patch grid."""

from .agglomerative import AgglomerativeMerging
from .base import AttentionTokenMerger, TokenMerger
from .bipartite import BipartiteMerging
from .clusters import TokenClusters, segment_mean
from .dpc_knn import DPCKNNMerging
from .k_medoids import KMedoidsMerging
from .methods import METHODS, Method
from .padding import assign_beside_padding, padded_patches
from .registry import TOKEN_MERGERS
from .top_k import TopKMerging

__all__ = [
    'METHODS',
    'TOKEN_MERGERS',
    'AgglomerativeMerging',
    'AttentionTokenMerger',
    'BipartiteMerging',
    'DPCKNNMerging',
    'KMedoidsMerging',
    'Method',
    'TokenClusters',
    'TokenMerger',
    'TopKMerging',
    'assign_beside_padding',
    'padded_patches',
    'segment_mean',
]
