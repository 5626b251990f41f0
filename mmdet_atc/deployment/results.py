"""From what a program finds to detections as MMDetection gives them."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmengine.structures import InstanceData

from .detector import OUTPUTS, Detections


def of_image(
    found: Detections,
    index: int,
    size: tuple[int, int],
    threshold: float,
    scale: tuple[float, float] = (1.0, 1.0),
) -> InstanceData:
    """Detections of one image of a batch.

    Args:
        found (Detections): Of the batch.
        index (int): Place of the image in it.
        size (tuple[int, int]): Height and width of the picture, which masks have.
        threshold (float): Probability from which on a pixel belongs to the object.
        scale (tuple[float, float]): Width and height that the program saw over those of the
            picture. Default: 1.
    """
    is_here = found['images'] == index
    boxes, scores, labels, masks = (found[name][is_here] for name in OUTPUTS[:4])
    boxes = boxes / boxes.new_tensor(scale).repeat(2)
    result = InstanceData(bboxes=boxes, scores=scores, labels=labels)
    if masks.shape[-1]:
        result.masks = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
        for mask, box, whole in zip(masks, boxes, result.masks):
            part, (rows, cols) = _do_paste_mask(mask[None, None], box[None], *size, skip_empty=True)
            whole[rows, cols] = part[0] >= threshold
    return result
