"""Whether Triton's kernels can be used."""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor


def can_run_triton(tensor: Tensor) -> bool:
    """Whether there are kernels for the device that a tensor is on."""
    return tensor.is_cuda and _has_triton()


@torch.compiler.assume_constant_result
@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec('triton') is not None
