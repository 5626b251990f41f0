"""The sampling of deformable attention on the CPU, as an operator that torch can trace."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor

from mmdet_atc.native import load_library

_FOLDER = Path(__file__).with_name('csrc')


@functools.cache
def _library() -> ctypes.CDLL | None:
    return load_library(_FOLDER, 'deformable_attention', 'deformable attention', "mmcv's PyTorch")


@torch.compiler.assume_constant_result
def _is_compiled() -> bool:
    return _library() is not None


def sample_on_cpu(
    value: Tensor,
    shapes: tuple[tuple[int, int], ...],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples per query and head (Zhu et al., 2021, equation 3).

    One pass over the queries; through :func:`mmcv.ops.multi_scale_deformable_attn_pytorch`, which
    gives the same several times as slowly, where there is no compiler.

    Args:
        value (Tensor): ``(B, S, H, D)``, the levels one after another, float32 or float64, CPU.
        shapes (tuple): Height and width of each level.
        reference (Tensor): Centre of each query as (x, y) in [0, 1], ``(Q, 2)``; gets no gradient.
        offsets (Tensor): ``(B, Q, H, L, P, 2)``, from the centre, in cells of the level.
        logits (Tensor): ``(B, Q, H, L * P)``, before softmax.

    Returns:
        Tensor: ``(B, Q, H * D)``.
    """
    if not _is_compiled():
        locations, weights = sampling_locations(shapes, reference, offsets, logits)
        return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    flat = [side for shape in shapes for side in shape]
    tensors = (x.contiguous() for x in (value, reference, offsets, logits))
    return _sample(*tensors, flat).flatten(2)


def sampling_locations(
    shapes: tuple[tuple[int, int], ...], reference: Tensor, offsets: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Locations and weights as mmcv's operators take them; arguments as :func:`sample_on_cpu`.

    Returns:
        tuple[Tensor, Tensor]: ``(B, Q, H, L, P, 2)`` as (x, y) in [0, 1] and ``(B, Q, H, L, P)``.
    """
    cells = offsets.new_tensor([(width, height) for height, width in shapes])
    locations = reference[:, None, None, None] + offsets / cells[:, None]
    return locations, logits.softmax(-1).reshape(offsets.shape[:-1])


# Schemas are spelled out: torch 2.6 cannot read them off annotations such as list[int].
_TENSORS = 'Tensor value, Tensor reference, Tensor offsets, Tensor logits'


@torch.library.custom_op(
    'mmdet_atc::deformable_sampling',
    mutates_args=(),
    device_types='cpu',
    schema=f'({_TENSORS}, SymInt[] shapes) -> Tensor',
)
def _sample(
    value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, shapes: list[int]
) -> Tensor:
    out = _out_like(value, offsets)
    _call('atc_deformable', (value, reference, offsets, logits, out), shapes)
    return out


@torch.library.custom_op(
    'mmdet_atc::deformable_sampling_backward',
    mutates_args=(),
    device_types='cpu',
    schema=f'({_TENSORS}, Tensor grad, SymInt[] shapes) -> (Tensor, Tensor, Tensor)',
)
def _sample_backward(
    value: Tensor,
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    grad: Tensor,
    shapes: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    grads = torch.zeros_like(value), torch.empty_like(offsets), torch.empty_like(logits)
    _call('atc_deformable_backward', (value, reference, offsets, logits, grad, *grads), shapes)
    return grads


@_sample.register_fake
def _(value, reference, offsets, logits, shapes):
    return _out_like(value, offsets)


@_sample_backward.register_fake
def _(value, reference, offsets, logits, grad, shapes):
    return torch.empty_like(value), torch.empty_like(offsets), torch.empty_like(logits)


def _out_like(value: Tensor, offsets: Tensor) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, offsets.shape[1], heads, channels)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.shapes = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    value, offsets, logits = _sample_backward(*ctx.saved_tensors, grad.contiguous(), ctx.shapes)
    return value, None, offsets, logits, None


_sample.register_autograd(_backward, setup_context=_setup_context)


def _call(name: str, tensors: tuple[Tensor, ...], shapes: list[int]) -> None:
    library = _library()
    assert library is not None
    value, _, offsets, *_ = tensors
    suffix = 'float' if value.dtype == torch.float32 else 'double'
    batch, num_values, heads, channels = value.shape
    _, queries, _, levels, points, _ = offsets.shape
    sizes = (batch, num_values, heads, channels, levels, queries, points)
    failed = getattr(library, f'{name}_{suffix}')(
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
        *(ctypes.c_int64(size) for size in sizes),
        (ctypes.c_int64 * len(shapes))(*shapes),
        ctypes.c_int64(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError('not enough memory for deformable attention')
