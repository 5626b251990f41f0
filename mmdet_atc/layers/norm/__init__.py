"""Layer norm, and a residual added before it, in one pass."""

from .api import add_layer_norm, layer_norm
from .module import LayerNorm

__all__ = ['LayerNorm', 'add_layer_norm', 'layer_norm']
