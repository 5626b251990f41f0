"""Inference for users."""

from .exported import ExportedInferencer, load_exported
from .inferencer import DetInferencer

__all__ = ['DetInferencer', 'ExportedInferencer', 'load_exported']
