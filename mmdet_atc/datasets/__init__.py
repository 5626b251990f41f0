"""Data that the project makes itself."""

from .shapes import SHAPES_CLASSES, generate_shapes_dataset

__all__ = ['SHAPES_CLASSES', 'generate_shapes_dataset']
