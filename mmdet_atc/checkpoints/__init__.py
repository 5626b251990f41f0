"""Checkpoints: what may be unpickled, where they come from, how they fit a backbone."""

from . import timm_scheme  # noqa: F401
from .pretrained import load_pretrained_vit
from .safe_globals import allow_mmengine_checkpoints

allow_mmengine_checkpoints()

__all__ = ['allow_mmengine_checkpoints', 'load_pretrained_vit']
