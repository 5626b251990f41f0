"""Data sets: COCO's with its faults named, and one that the project makes itself."""

from .checked_coco import CheckedCocoDataset
from .checked_coco_metric import CheckedCocoMetric
from .errors import DataError
from .image_checks import CheckJPEGEnd, MatchAnnotatedSize
from .semantic_maps import write_semantic_maps
from .shapes import SHAPES_CLASSES, generate_shapes_dataset

__all__ = [
    'SHAPES_CLASSES',
    'CheckJPEGEnd',
    'CheckedCocoDataset',
    'CheckedCocoMetric',
    'DataError',
    'MatchAnnotatedSize',
    'generate_shapes_dataset',
    'write_semantic_maps',
]
