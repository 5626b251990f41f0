"""Backbones, registered in mmdet's ``MODELS``."""

from mmdet_atc.clustering import NonFiniteError

from .atc_vit_adapter import ATCViTAdapter
from .vit_adapter import ViTAdapter

__all__ = ['ATCViTAdapter', 'NonFiniteError', 'ViTAdapter']
