"""Plain ``nn.Module`` parts of the backbones: ViT block, deformable attention, adapter."""

from .adapter import Extractor, Injector, Interaction
from .attention import Attention, WindowAttention, folded_attention, proportional_attention
from .block import Block, add_residual
from .convolutions import pointwise, upsampled_onto
from .deformable_attention import DeformableTarget, MSDeformAttn
from .maps import to_map
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
    'folded_attention',
    'pointwise',
    'proportional_attention',
    'to_map',
    'upsampled_onto',
]
