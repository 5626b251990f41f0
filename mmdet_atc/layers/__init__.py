"""Plain ``nn.Module`` parts of the backbones: ViT block, deformable attention, adapter."""

from mmdet_atc.merging.proportional import folded_attention, proportional_attention

from .adapter import Extractor, Injector, Interaction
from .attention import Attention, WindowAttention
from .block import Block, add_residual
from .convolutions import pointwise, upsampled_onto
from .deformable import DeformableTarget, MSDeformAttn, deformable_attention
from .depthwise import depthwise_gelu
from .maps import to_map
from .norm import add_layer_norm, layer_norm
from .resize import resized_sum
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
    'depthwise_gelu',
    'folded_attention',
    'layer_norm',
    'pointwise',
    'proportional_attention',
    'resized_sum',
    'to_map',
    'upsampled_onto',
]
