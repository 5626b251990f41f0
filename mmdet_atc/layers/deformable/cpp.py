"""Deformable attention on the CPU, one pass over the queries in C++."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from mmdet_atc.native import load_library

_FOLDER = Path(__file__).with_name('csrc')


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled form, or None (after a warning) where there is no compiler."""
    return load_library(_FOLDER, 'deformable_attention', 'deformable attention', 'plain PyTorch')


def forward(value: Tensor, projections: Tensor, reference: Tensor, shapes: list[int]) -> Tensor:
    """Arguments and result as :func:`plain.deformable_attention`, but ``shapes`` flat."""
    full = _full(value, projections)
    tensors = [_as(full, x) for x in (value, projections, reference)]
    out = value.new_empty(len(value), projections.shape[1], *value.shape[2:], dtype=full)
    _call('atc_deformable', value, projections, (*tensors, out), shapes)
    return out.to(value.dtype)


def backward(
    value: Tensor, projections: Tensor, reference: Tensor, grad: Tensor, shapes: list[int]
) -> tuple[Tensor, Tensor]:
    """Gradients of ``value`` and ``projections``, given that of the output."""
    full = _full(value, projections)
    tensors = [_as(full, x) for x in (value, projections, reference, grad)]
    grads = torch.zeros_like(tensors[0]), torch.empty_like(tensors[1])
    _call('atc_deformable_backward', value, projections, (*tensors, *grads), shapes)
    return grads[0].to(value.dtype), grads[1].to(projections.dtype)


def _full(value: Tensor, projections: Tensor) -> torch.dtype:
    dtype = torch.promote_types(value.dtype, projections.dtype)
    return torch.promote_types(dtype, torch.float32)


def _as(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(dtype).contiguous()


def _call(
    name: str,
    value: Tensor,
    projections: Tensor,
    tensors: tuple[Tensor, ...],
    shapes: list[int],
) -> None:
    found = library()
    assert found is not None
    suffix = 'float' if tensors[0].dtype == torch.float32 else 'double'
    batch, num_values, heads, channels = value.shape
    queries, width = projections.shape[1:]
    levels = len(shapes) // 2
    sizes = (batch, num_values, heads, channels, levels, queries, width // (3 * heads * levels))
    failed = getattr(found, f'{name}_{suffix}')(
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
        *(ctypes.c_int64(size) for size in sizes),
        (ctypes.c_int64 * len(shapes))(*shapes),
        ctypes.c_int64(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError('not enough memory for deformable attention')
