"""Registers all operators of the plugin under ``torch.ops.mmdet_atc``.

For programs that call them without the package's models, such as exported ones; needs nothing of
OpenMMLab.
"""

from .clustering import api as clustering
from .layers import deformable, depthwise, norm, resize
from .merging import segments

__all__ = ['clustering', 'deformable', 'depthwise', 'norm', 'resize', 'segments']
