"""Token merging: from attention keys to clusters, and between clusters and the patch grid."""

from .agglomerative import AgglomerativeMerging
from .base import AttentionTokenMerger, TokenMerger
from .bipartite import BipartiteMerging
from .clusters import TokenClusters
from .dpc_knn import DPCKNNMerging
from .evit import EViTMerging
from .k_medoids import KMedoidsMerging
from .methods import METHODS, Method
from .padding import assign_beside_padding, padded_patches, padded_tokens
from .plan import TokenPlan, build_plan, constant_plan, keep_rate_plan, linear_plan
from .proportional import folded_attention, proportional_attention, received_attention
from .registry import TOKEN_MERGERS, build_merger
from .segments import segment_mean
from .top_k import TopKMerging

__all__ = [
    'METHODS',
    'TOKEN_MERGERS',
    'AgglomerativeMerging',
    'AttentionTokenMerger',
    'BipartiteMerging',
    'DPCKNNMerging',
    'EViTMerging',
    'KMedoidsMerging',
    'Method',
    'TokenClusters',
    'TokenMerger',
    'TokenPlan',
    'TopKMerging',
    'assign_beside_padding',
    'build_merger',
    'build_plan',
    'constant_plan',
    'folded_attention',
    'keep_rate_plan',
    'linear_plan',
    'padded_patches',
    'padded_tokens',
    'proportional_attention',
    'received_attention',
    'segment_mean',
]
