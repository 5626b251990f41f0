"""Backbones, registered in mmdet's ``MODELS``."""

from mmdet_atc.clustering import NonFiniteError

from .atc_vit_adapter import ATCViTAdapter
from .non_finite import non_finite_error
from .svit_adapter import SViTAdapter
from .valid_sizes import valid_sizes
from .vit_adapter import ViTAdapter

__all__ = [
    'ATCViTAdapter',
    'NonFiniteError',
    'SViTAdapter',
    'ViTAdapter',
    'non_finite_error',
    'valid_sizes',
]
