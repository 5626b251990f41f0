"""Multiply-adds of a forward pass as it runs: merging and deformable attention included."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads import CascadeRoIHead
from torch.utils.flop_counter import FlopCounterMode

#: A bilinear sample is four multiply-adds, and one more weighs it (Zhu et al., 2021, eq. 3).
_MACS_PER_SAMPLE = 5


def _deformable_attention(value_shape, projections_shape, *args, out_shape=None, **kwargs) -> int:
    samples = math.prod(projections_shape) // 3  # two offsets and a logit each
    return 2 * _MACS_PER_SAMPLE * samples * value_shape[3]


def _clustering(features_shape, *args, out_shape=None, **kwargs) -> int:
    batch, tokens, channels = features_shape
    return 2 * batch * tokens * tokens * channels


def _sampling(*args, out_shape, **kwargs) -> int:
    return 2 * _MACS_PER_SAMPLE * math.prod(out_shape)


def _attention(query_shape, key_shape, value_shape, *args, out_shape=None, **kwargs) -> int:
    batch, heads, queries, channels = query_shape
    return 2 * batch * heads * queries * key_shape[2] * (channels + value_shape[3])


@torch.inference_mode()
def count_macs(model: BaseDetector, inputs: dict) -> dict[str, float]:
    """Multiply-adds of one call, which papers call FLOPs, by part of the detector.

    Counted are convolutions, matrix products (those of the clustering's distances too), attention
    and the sampling of deformable attention, at the shapes that really occur; not counted are
    element-wise operations, normalisation and comparisons. Detectors with regions get masks of as
    many as they detect at most.

    Args:
        model (BaseDetector): Detector in evaluation mode, on the CPU: mmcv's CUDA operator hides
            its sampling.
        inputs (dict): ``inputs`` and ``data_samples`` as the data preprocessor returns them.

    Returns:
        dict[str, float]: Multiply-adds of ``backbone``, ``neck`` (0 where there is none), ``heads``
        and ``total``.
    """
    with _masks_of_detections(getattr(model, 'roi_head', None)):
        counter = _counted(model, **inputs, mode='tensor')
    by_module = counter.get_flop_counts()
    parts = {
        part: sum(by_module.get(f'{type(model).__name__}.{part}', {}).values()) / 2
        for part in ('backbone', 'neck')
    }
    total = counter.get_total_flops() / 2
    return {**parts, 'heads': total - sum(parts.values()), 'total': total}


def _counted(call: Callable, *args, **kwargs) -> FlopCounterMode:
    """What counted the operations of a call."""
    mapping: dict[Any, Any] = {
        torch.ops.mmdet_atc.agglomerative_clustering: _clustering,
        torch.ops.mmdet_atc.deformable_attention: _deformable_attention,
        torch.ops.aten.grid_sampler_2d: _sampling,  # mmdet's heads
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    }
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with counter:
        call(*args, **kwargs)
    return counter


def _masks_of_detections(roi_head: Any) -> AbstractContextManager:
    """In mode tensor mmdet's cascades predict masks of all regions, in inference of detections."""
    if not isinstance(roi_head, CascadeRoIHead) or not roi_head.with_mask:
        return nullcontext()
    forward = roi_head._mask_forward

    def of_the_first(stage: int, x: tuple, rois: torch.Tensor) -> dict:
        results = forward(stage, x, rois[: roi_head.test_cfg.max_per_img])
        masks = results['mask_preds']
        return dict(mask_preds=F.pad(masks, (0, 0, 0, 0, 0, 0, 0, len(rois) - len(masks))))

    return mock.patch.object(roi_head, '_mask_forward', of_the_first)
