"""Plain ``nn.Module`` parts of the backbones: ViT block, deformable attention, adapter."""

from .adapter import Extractor, Injector, Interaction
from .attention import Attention, WindowAttention
from .block import Block, add_residual
from .convolutions import patch_tokens
from .deformable_attention import DeformableTarget, MSDeformAttn
from .maps import to_map, to_tokens
from .output_maps import coarser_map, feature_map, finest_map
from .precision import as_half, autocast_dtype
from .proportional import folded_attention, proportional_attention
from .spatial_prior import SpatialPriorModule

__all__ = [
    'Attention',
    'Block',
    'DeformableTarget',
    'Extractor',
    'Injector',
    'Interaction',
    'MSDeformAttn',
    'SpatialPriorModule',
    'WindowAttention',
    'add_residual',
    'as_half',
    'autocast_dtype',
    'coarser_map',
    'feature_map',
    'finest_map',
    'folded_attention',
    'patch_tokens',
    'proportional_attention',
    'to_map',
    'to_tokens',
]
