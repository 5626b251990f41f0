"""Exported files: written and opened in one place, whatever their format."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import aoti, onnx, pt2
from .detector import Detections, TraceableDetector
from .spec import Spec

#: The function that writes each format, how its files end, and the oldest torch that can.
FORMATS = {
    'pt2': (pt2.save, '.pt2', '2.10'),
    'aoti': (aoti.save, '.pt2', '2.10'),
    'onnx': (onnx.save, '.onnx', '2.11'),
}


@dataclass(frozen=True)
class Program:
    """An exported file that is ready to run, on the CPU.

    Args:
        spec (Spec): Which inputs it takes.
        run (Callable): What it does with them, as :meth:`TraceableDetector.forward`.
    """

    spec: Spec
    run: Callable[[Tensor, Tensor], Detections]

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Detections:
        """As :meth:`TraceableDetector.forward`.

        Raises:
            ValueError: If the file takes inputs of other shapes.
        """
        self.spec.check(pixels, sizes)
        return self.run(pixels, sizes)


def save(detector: TraceableDetector, spec: Spec, path: Path, format: str) -> None:
    """Export a detector.

    Args:
        detector (TraceableDetector): In evaluation mode, on the CPU.
        spec (Spec): Of its inputs.
        path (Path): The file; its folder is made.
        format (str): ``'pt2'``, ``'aoti'`` or ``'onnx'``.

    Raises:
        ValueError: If there is no such format, or the file is not named as it asks for.
        ImportError: If the format needs a package that is not installed, or a newer torch; the
            message names it.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {tuple(FORMATS)}, got {format!r}')
    write, suffix, oldest = FORMATS[format]
    if torch.__version__ < oldest:
        raise ImportError(
            f'format {format!r} needs torch {oldest} or later, this is {torch.__version__}'
        )
    if path.suffix != suffix:
        raise ValueError(f'a file of format {format!r} must end in {suffix}, got {path.name}')
    path.parent.mkdir(parents=True, exist_ok=True)
    write(detector, spec, path)


def open_program(path: Path) -> Program:
    """Open an exported file of any format.

    Args:
        path (Path): A file of :func:`save`.

    Returns:
        Program: With its :class:`Spec`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of ours.
        ImportError: If running it needs a package that is not installed; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no exported file at {str(path)!r}')
    if load := _loader(path):
        spec, run = load(path)
        if spec is not None:
            return Program(Spec.from_json(spec), run)
    raise ValueError(f'{path} is no file of tools/deployment/export.py')


def _loader(path: Path) -> Callable | None:
    """The function that reads the format of a file."""
    if not zipfile.is_zipfile(path):
        return onnx.load if path.suffix == '.onnx' else None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith('extra/mmdet_atc.json') for name in names):
        return pt2.load
    return aoti.load if any('/data/aotinductor/' in name for name in names) else None
