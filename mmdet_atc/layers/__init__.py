"""Plain ``nn.Module`` parts of the backbones: ViT block, deformable attention, adapter."""

from .adapter import Extractor, Injector, Interaction
from .attention import Attention, WindowAttention, folded_attention, proportional_attention
from .block import Block, add_residual
from .deformable import DeformableTarget, MSDeformAttn, deformable_attention
from .maps import to_map
from .norm import add_layer_norm, layer_norm
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
    'add_layer_norm',
    'add_residual',
    'deformable_attention',
    'folded_attention',
    'layer_norm',
    'proportional_attention',
    'to_map',
]
