"""The sampling of deformable attention on a GPU: mmcv's operator, made traceable for torch."""

from __future__ import annotations

import math

import torch
from mmcv.ops import multi_scale_deform_attn as mmcv_attention
from torch import Tensor

#: Images that mmcv's operator handles per step; it must divide the batch size.
_IM2COL_STEP = 64


def sample_on_device(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples per query and head (Zhu et al., 2021, equation 3).

    Args:
        value (Tensor): ``(B, S, H, D)``, the levels one after another, float32 or float64,
            contiguous like the others.
        spatial_shapes (Tensor): Height and width of each level, ``(L, 2)`` int64.
        level_start_index (Tensor): First row of each level in ``value``, ``(L,)`` int64.
        locations (Tensor): ``(B, Q, H, L, P, 2)`` as (x, y) in [0, 1].
        weights (Tensor): ``(B, Q, H, L, P)``.

    Returns:
        Tensor: ``(B, Q, H * D)``.
    """
    tensors = value, spatial_shapes, level_start_index, locations, weights
    if torch.compiler.is_compiling():
        return _sample(*tensors)
    # Without the dispatch through Python that an operator of ours costs in each call.
    return mmcv_attention.MultiScaleDeformableAttnFunction.apply(*tensors, _step(value))


def _step(value: Tensor) -> int:
    return math.gcd(len(value), _IM2COL_STEP)


_TENSORS = (
    'Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor locations, '
    'Tensor weights'
)


@torch.library.custom_op(
    'mmdet_atc::ms_deform_attn', mutates_args=(), schema=f'({_TENSORS}) -> Tensor'
)
def _sample(*tensors: Tensor) -> Tensor:
    return mmcv_attention.ext_module.ms_deform_attn_forward(*tensors, im2col_step=_step(tensors[0]))


@torch.library.custom_op(
    'mmdet_atc::ms_deform_attn_backward',
    mutates_args=(),
    schema=f'({_TENSORS}, Tensor grad) -> (Tensor, Tensor, Tensor)',
)
def _sample_backward(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value, _, _, locations, weights, _ = tensors
    # The kernel adds to them.
    grads = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    mmcv_attention.ext_module.ms_deform_attn_backward(*tensors, *grads, im2col_step=_step(value))
    return grads


@_sample.register_fake
def _(value, spatial_shapes, level_start_index, locations, weights):
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, locations.shape[1], heads * channels)


@_sample_backward.register_fake
def _(value, spatial_shapes, level_start_index, locations, weights, grad):
    return torch.empty_like(value), torch.empty_like(locations), torch.empty_like(weights)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):
    value, locations, weights = _sample_backward(*ctx.saved_tensors, grad.contiguous())
    return value, None, None, locations, weights


_sample.register_autograd(_backward, setup_context=_setup_context)
