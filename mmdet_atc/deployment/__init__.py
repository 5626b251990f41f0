"""Detectors outside of Python and OpenMMLab: export, and what is done with the files."""

from .detector import OUTPUTS, Detections, TraceableDetector
from .masks import pasted
from .parity import Parity, compare
from .program import FORMATS, Program, open_program, save
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
    'open_program',
    'pasted',
    'save',
]
