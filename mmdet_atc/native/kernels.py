"""Whether Triton's kernels can be used."""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

#: The oldest Triton that compiles all of them; torch 2.9 brings it.
OLDEST = 3, 5


def can_run_triton(tensor: Tensor) -> bool:
    """Whether there are kernels for the device that a tensor is on."""
    return tensor.is_cuda and not why_no_triton()


@torch.compiler.assume_constant_result
@functools.cache
def why_no_triton() -> str:
    """Why Triton cannot be used, which a warning says too; empty where it can."""
    try:
        import triton
    except ImportError as error:
        reason = f'Triton cannot be imported ({error})'
    else:
        if tuple(map(int, triton.__version__.split('.')[:2])) >= OLDEST:
            return ''
        reason = f'Triton {triton.__version__} cannot compile the kernels, 3.5 (torch 2.9) can'
    warnings.warn(f'{reason}: they run as plain torch, more slowly', stacklevel=2)
    return reason
