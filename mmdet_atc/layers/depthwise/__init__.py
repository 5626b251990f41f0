"""The depth-wise convolution of the Extractors' feed-forward network, with its activation."""

from .api import depthwise_gelu

__all__ = ['depthwise_gelu']
