"""COCO's figures of boxes that a test says were found."""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.registry import METRICS


def evaluated(
    ann_file: Path,
    found: dict[int, tuple[list, list[int]]],
    size: tuple[int, int],
    classes: tuple[str, ...],
    metric: str | list[str] = 'bbox',
) -> dict[str, float]:
    """Figures of boxes and labels by image id.

    Masks are the boxes' pixels, images of ``size``. Of an image the last box scores highest.
    """
    config = dict(type='CheckedCocoMetric', ann_file=str(ann_file), metric=metric)
    evaluator = METRICS.build(config)
    evaluator.dataset_meta = dict(classes=classes)
    for image, (boxes, labels) in found.items():
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        prediction = dict(
            bboxes=boxes,
            scores=torch.linspace(0.9, 0.95, len(boxes)),
            labels=torch.tensor(labels, dtype=torch.int64),
            masks=masks,
        )
        evaluator.process({}, [dict(img_id=image, ori_shape=size, pred_instances=prediction)])
    return evaluator.evaluate(len(found))
