"""From a grid of probabilities over a box to the pixels of a picture."""

from __future__ import annotations

import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from torch import Tensor


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Masks as MMDetection gives them.

    Args:
        masks (Tensor): ``(N, M, M)`` probabilities.
        boxes (Tensor): ``(N, 4)`` as (x1, y1, x2, y2) in pixels of the picture.
        size (tuple[int, int]): Height and width of the picture.
        threshold (float): Probability from which on a pixel belongs to the object.

    Returns:
        Tensor: ``(N, height, width)`` bool.
    """
    out = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for mask, box, whole in zip(masks, boxes, out):
        part, (rows, cols) = _do_paste_mask(mask[None, None], box[None], *size, skip_empty=True)
        whole[rows, cols] = part[0] >= threshold
    return out
