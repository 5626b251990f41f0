"""What mmcv's operators are compared with: definitions, and the compiled ones where they are."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor
from torch.nn import functional as F

from mmdet_atc import mmcv_ext

#: mmcv's own extension module, or None where it is not compiled.
COMPILED = None if mmcv_ext.is_supplied() else importlib.import_module('mmcv._ext')


def overlap(box: Tensor, others: Tensor, offset: int) -> Tensor:
    """Intersection over union of ``(4,)`` with ``(N, 4)``."""
    sides = torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2]) + offset
    inner = sides.clamp(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2] + offset).prod(1)
    return inner / ((box[2:] - box[:2] + offset).prod() + areas - inner)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Boxes by falling score, each kept unless one kept before overlaps it by more."""
    kept: list[int] = []
    for candidate in scores.sort(descending=True, stable=True).indices.tolist():
        overlaps = overlap(boxes[candidate], boxes[kept], offset)
        if not (overlaps > torch.tensor(iou_threshold, dtype=boxes.dtype)).any():
            kept.append(candidate)
    return torch.tensor(kept, dtype=torch.int64)


def roi_align(feature, rois, size, scale, sampling_ratio, aligned):
    """Means of bilinear samples on a grid in each cell of each region, ``(N, C, *size)``."""
    _, _, height, width = feature.shape
    out = []
    for image, *corners in rois.tolist():
        x0, y0, x1, y1 = (corner * scale - 0.5 * aligned for corner in corners)
        least = 0.0 if aligned else 1.0
        w, h = max(x1 - x0, least), max(y1 - y0, least)
        rows = sampling_ratio or -(-h // size[0])
        columns = sampling_ratio or -(-w // size[1])
        if not rows or not columns:
            out.append(feature.new_zeros(feature.shape[1], *size))
            continue
        y = y0 + (torch.arange(size[0] * rows).double() + 0.5) * h / (size[0] * rows)
        x = x0 + (torch.arange(size[1] * columns).double() + 0.5) * w / (size[1] * columns)
        inside = ((y >= -1) & (y <= height))[:, None] & ((x >= -1) & (x <= width))
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
        grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)
        grid = (grid + 0.5) * 2 / grid.new_tensor([width, height]) - 1
        samples = F.grid_sample(
            feature[int(image)][None], grid[None].to(feature), align_corners=False
        )
        samples = samples * inside
        out.append(F.avg_pool2d(samples, (int(rows), int(columns)))[0])
    if not out:
        return feature.sum() * feature.new_zeros(0, feature.shape[1], *size)
    return torch.stack(out)


def focal_loss(logits, target, weight, gamma, alpha):
    """-alpha (1 - p)^gamma log p of the target's class, and the reverse of all others."""
    true = F.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    p = logits.sigmoid()
    loss = torch.where(
        true,
        -alpha * (1 - p) ** gamma * F.logsigmoid(logits),
        -(1 - alpha) * p**gamma * F.logsigmoid(-logits),
    )
    return loss if weight is None else loss * weight[target][:, None]
