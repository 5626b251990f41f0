"""Inference for users."""

from .inferencer import DetInferencer

__all__ = ['DetInferencer']
