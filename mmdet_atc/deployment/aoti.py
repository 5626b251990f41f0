"""AOTInductor: the program of :mod:`.pt2`, compiled ahead of time for this processor."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from .detector import Detections, TraceableDetector
from .pt2 import traced
from .spec import Spec

#: Key of the :class:`Spec` in the package, beside its limits, which programs in C++ read.
_SPEC = 'mmdet_atc'


def save(detector: TraceableDetector, spec: Spec, path: Path) -> None:
    """Export to a ``.pt2`` package.

    Raises:
        ValueError: If there is no C++ compiler.
    """
    compiler = os.environ.get('CXX', 'g++')
    if shutil.which(compiler) is None:
        raise ValueError(f'format aoti needs a C++ compiler, got {compiler} (apt install g++)')
    # Late, for these take seconds.
    from torch._inductor.decomposition import decompositions, select_decomp_table
    from torch._inductor.lowering import make_fallback, require_contiguous

    # Torchvision's RoIAlign copies maps that are channels last, and slowly.
    make_fallback(torch.ops.torchvision.roi_align.default, require_contiguous, warn=False)
    group_norm = torch.ops.aten.native_group_norm.default
    program, table = traced(detector, spec), select_decomp_table()
    # `freezing` is looked at only where there are no gradients.
    with torch.no_grad(), patch.dict(decompositions), patch.dict(table):
        # Inductor's group norm is several times slower than torch's.
        for known in (decompositions, table):
            known.pop(group_norm, None)
        # Explicit: with CI set, torch refuses implicit fallbacks.
        make_fallback(group_norm, warn=False)
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs={
                'aot_inductor.metadata': {_SPEC: spec.to_json()}
                | {name: f'{least} {most}' for name, (least, most) in spec.limits.items()},
                # Weights are constants: products and convolutions are oneDNN's, on packed weights
                # and channels last, with what follows them; MKL's are slower but for Intel's own.
                # torch 2.15 loses constants there, the ones between were not tried.
                'freezing': torch.__version__ < '2.12',
                # torch 2.11 compiles convolutions wrongly where the batch depends on the data, as
                # that of the mask head does, once it has chosen another layout for them.
                'layout_optimization': False,
                # Threads of the process that runs it, not as many as this one has.
                'cpp.dynamic_threads': True,
            },
        )


def load(path: Path) -> tuple[str | None, Callable[[Tensor, Tensor], Detections]]:
    """The :class:`Spec` in a file of :func:`save`, as JSON (None in others), and the program."""
    model = torch._inductor.aoti_load_package(str(path))
    return model.get_metadata().get(_SPEC), model
