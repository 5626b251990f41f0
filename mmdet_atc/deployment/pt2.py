"""``torch.export``: a program that PyTorch alone runs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import Dim, ExportedProgram

from .detector import Detections, TraceableDetector
from .spec import DIVISOR, LARGEST_BATCH, LARGEST_SIDE, SMALLEST_SIDE, Spec

#: Name of the :class:`Spec` in the archive.
_SPEC = 'mmdet_atc.json'
_FIXED_ONLY = 'this model cannot be exported with --dynamic; export one shape'


def traced(detector: TraceableDetector, spec: Spec) -> ExportedProgram:
    """The program of a detector.

    Args:
        detector (TraceableDetector): In evaluation mode.
        spec (Spec): Of the inputs.

    Returns:
        ExportedProgram: Takes pixels and sizes as ``detector`` does.

    Raises:
        ValueError: If sizes are to be dynamic, and the model computes otherwise for some of them.
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
    try:
        with torch.no_grad():
            program = torch.export.export(detector, (pixels, sizes), dynamic_shapes=shapes)
    except UserError as error:
        raise ValueError(f'{_FIXED_ONLY}: {str(error).splitlines()[0]}') from error
    if spec.dynamic:
        _check_guards(program)
    # So that it also runs where gradients are not switched off.
    for name, value in program.state_dict.items():
        if isinstance(value, nn.Parameter):
            program.state_dict[name] = nn.Parameter(value.detach(), requires_grad=False)
    return program


def _check_guards(program: ExportedProgram) -> None:
    """That no size is left out by what torch assumed when it traced the program."""
    check = getattr(program.module(), '_guards_fn', None)
    if check is None:  # older torch
        return
    sides = range(SMALLEST_SIDE, LARGEST_SIDE + 1, DIVISOR)
    shapes = {(1, side, other) for side in sides for other in sides}
    shapes |= {(batch, side, side) for side in sides for batch in (2, LARGEST_BATCH)}
    for batch, height, width in sorted(shapes):
        pixels = torch.empty(batch, 3, height, width, dtype=torch.uint8, device='meta')
        try:
            check(pixels, torch.empty(batch, 2, dtype=torch.int64, device='meta'))
        except AssertionError as error:
            size = f'{batch} of {height}x{width}'
            guard = textwrap.shorten(str(error), 120)
            raise ValueError(f'{_FIXED_ONLY}: not with images {size}. {guard}') from error


def save(detector: TraceableDetector, spec: Spec, path: Path) -> None:
    """Export to a ``.pt2`` file."""
    torch.export.save(traced(detector, spec), path, extra_files={_SPEC: spec.to_json()})


def load(path: Path) -> tuple[str, Callable[[Tensor, Tensor], Detections]]:
    """The :class:`Spec` in a file of :func:`save`, as JSON, and the program."""
    extra = {_SPEC: ''}
    program = torch.export.load(path, extra_files=extra)
    return extra[_SPEC], program.module()
