"""``torch.export``: a program that PyTorch alone runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .detector import Detections, TraceableDetector
from .spec import DIVISOR, LARGEST_BATCH, LARGEST_SIDE, SMALLEST_SIDE, Spec

#: Name of the :class:`Spec` in the archive.
_SPEC = 'mmdet_atc.json'


def traced(detector: TraceableDetector, spec: Spec) -> ExportedProgram:
    """The program of a detector.

    Args:
        detector (TraceableDetector): In evaluation mode.
        spec (Spec): Of the inputs.

    Returns:
        ExportedProgram: Takes pixels and sizes as ``detector`` does.
    """
    # Batches of 1 would be taken for a constant.
    batch = max(spec.batch, 2) if spec.dynamic else spec.batch
    pixels = torch.zeros(batch, 3, spec.height, spec.width, dtype=torch.uint8)
    sizes = torch.tensor([[spec.height, spec.width]]).repeat(batch, 1)
    shapes = None
    if spec.dynamic:
        smallest, largest = SMALLEST_SIDE // DIVISOR, LARGEST_SIDE // DIVISOR
        images = Dim('images', min=1, max=LARGEST_BATCH)
        rows, cols = (Dim(name, min=smallest, max=largest) for name in ('rows', 'cols'))
        shapes = {0: images, 2: DIVISOR * rows, 3: DIVISOR * cols}, {0: images}
    with torch.no_grad():
        program = torch.export.export(detector, (pixels, sizes), dynamic_shapes=shapes)
    # So that it also runs where gradients are not switched off.
    for name, value in program.state_dict.items():
        if isinstance(value, nn.Parameter):
            program.state_dict[name] = nn.Parameter(value.detach(), requires_grad=False)
    return program


def save(detector: TraceableDetector, spec: Spec, path: Path) -> None:
    """Export to a ``.pt2`` file."""
    torch.export.save(traced(detector, spec), path, extra_files={_SPEC: spec.to_json()})


class Pt2Program:
    """A file of :func:`save`, opened.

    Args:
        path (Path): The file.
    """

    def __init__(self, path: Path) -> None:
        extra = {_SPEC: ''}
        program = torch.export.load(path, extra_files=extra)
        self.spec = Spec.from_json(extra[_SPEC])
        self._module = program.module()

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Detections:
        """As :meth:`TraceableDetector.forward`.

        Raises:
            ValueError: If the file takes inputs of other shapes.
        """
        self.spec.check(pixels, sizes)
        return self._module(pixels, sizes)
