"""Plain ``nn.Module`` parts of the backbones: ViT block, deformable attention, adapter."""

from mmdet_atc.merging.proportional import folded_attention, proportional_attention

from .adapter import Extractor, Injector, Interaction
from .attention import Attention, WindowAttention
from .block import Block
from .convolutions import patch_tokens
from .deformable import DeformableTarget, MSDeformAttn, deformable_attention
from .depthwise import depthwise_gelu
from .maps import to_map, to_tokens
from .norm import LayerNorm, add_layer_norm, layer_norm
from .output_maps import coarser_map, feature_map, finest_map
from .precision import as_half, autocast_dtype
from .residual import add_residual
from .resize import resized_sum
from .spatial_prior import SpatialPriorModule

__all__ = [
    'Attention',
    'Block',
    'DeformableTarget',
    'Extractor',
    'Injector',
    'Interaction',
    'LayerNorm',
    'MSDeformAttn',
    'SpatialPriorModule',
    'WindowAttention',
    'add_layer_norm',
    'add_residual',
    'as_half',
    'autocast_dtype',
    'coarser_map',
    'deformable_attention',
    'depthwise_gelu',
    'feature_map',
    'finest_map',
    'folded_attention',
    'layer_norm',
    'patch_tokens',
    'proportional_attention',
    'resized_sum',
    'to_map',
    'to_tokens',
]
