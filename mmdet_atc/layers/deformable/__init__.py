"""Multi-scale deformable attention: one operator, its forms side by side."""

from .api import deformable_attention
from .module import DeformableTarget, MSDeformAttn

__all__ = ['DeformableTarget', 'MSDeformAttn', 'deformable_attention']
