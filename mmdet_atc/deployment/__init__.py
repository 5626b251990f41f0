"""Detectors outside of Python and OpenMMLab: export, and what is done with the files."""

from .detector import OUTPUTS, Detections, TraceableDetector
from .parity import Parity, compare
from .program import FORMATS, Program, open_program, save
from .results import of_image
from .spec import Spec

__all__ = [
    'FORMATS',
    'OUTPUTS',
    'Detections',
    'Parity',
    'Program',
    'Spec',
    'TraceableDetector',
    'compare',
    'of_image',
    'open_program',
    'save',
]
