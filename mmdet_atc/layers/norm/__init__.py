"""Layer norm, and a residual added before it, in one pass."""

from .api import add_layer_norm, layer_norm

__all__ = ['add_layer_norm', 'layer_norm']
