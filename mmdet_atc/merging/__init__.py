"""Token merging: from attention keys to clusters, and between clusters and the patch grid."""

from .agglomerative import AgglomerativeMerging
from .base import AttentionTokenMerger, TokenMerger
from .bipartite import BipartiteMerging
from .clusters import TokenClusters
from .dpc_knn import DPCKNNMerging
from .k_medoids import KMedoidsMerging
from .padding import assign_beside_padding, padded_patches
from .registry import TOKEN_MERGERS
from .segments import segment_mean
from .top_k import TopKMerging

__all__ = [
    'TOKEN_MERGERS',
    'AgglomerativeMerging',
    'AttentionTokenMerger',
    'BipartiteMerging',
    'DPCKNNMerging',
    'KMedoidsMerging',
    'TokenClusters',
    'TokenMerger',
    'TopKMerging',
    'assign_beside_padding',
    'padded_patches',
    'segment_mean',
]
