"""Exported files: written and opened in one place, whatever their format."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Protocol

from torch import Tensor

from . import aoti, onnx, pt2
from .detector import Detections, TraceableDetector
from .spec import Spec

#: The function that writes each format, and how its files end.
FORMATS = {'pt2': (pt2.save, '.pt2'), 'aoti': (aoti.save, '.pt2'), 'onnx': (onnx.save, '.onnx')}


class Program(Protocol):
    """An exported file that is ready to run."""

    spec: Spec

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Detections:
        """As :meth:`TraceableDetector.forward`."""


def save(detector: TraceableDetector, spec: Spec, path: Path, format: str) -> None:
    """Export a detector.

    Args:
        detector (TraceableDetector): In evaluation mode, on the CPU.
        spec (Spec): Of its inputs.
        path (Path): The file; its folder is made.
        format (str): ``'pt2'``, ``'aoti'`` or ``'onnx'``.

    Raises:
        ValueError: If there is no such format, or the file is not named as it asks for.
        ImportError: If the format needs a package that is not installed; the message names it.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {tuple(FORMATS)}, got {format!r}')
    write, suffix = FORMATS[format]
    if path.suffix != suffix:
        raise ValueError(f'a file of format {format!r} must end in {suffix}, got {path.name}')
    path.parent.mkdir(parents=True, exist_ok=True)
    write(detector, spec, path)


def open_program(path: Path) -> Program:
    """Open an exported file of any format.

    Args:
        path (Path): A file of :func:`save`.

    Returns:
        Program: Which runs on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of ours.
        ImportError: If running it needs a package that is not installed; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no exported file at {str(path)!r}')
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith('extra/mmdet_atc.json') for name in names):
            return pt2.Pt2Program(path)
        if any('/data/aotinductor/' in name for name in names):
            return aoti.AotiProgram(path)
    elif path.suffix == '.onnx':
        return onnx.OnnxProgram(path)
    raise ValueError(f'{path} is no file of tools/deployment/export.py')
