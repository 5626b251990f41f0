"""What detectors do with boxes, without Python's branches: forms that torch can trace.

The number of boxes that are kept depends on the data; everything else has a size that follows from
those of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor
from torchvision.ops import nms, roi_align


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` highest scores of each image and where they are, whatever there is of them.

    Args:
        scores (Tensor): ``(B, N)``, none below 0.
        count (int): How many.

    Returns:
        tuple[Tensor, Tensor]: Scores, -1 where an image has no more, and indices,
        ``(B, count)`` each.
    """
    filled = torch.cat([scores, scores.new_full((scores.shape[0], count), -1.0)], dim=1)
    best, index = filled.topk(count, dim=1)
    return best, torch.where(best < 0, 0, index)


def clipped(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes cut off at the borders of their pictures.

    Args:
        boxes (Tensor): ``(B, N, 4)`` as (x1, y1, x2, y2).
        sizes (Tensor): Height and width of each picture, ``(B, 2)``.

    Returns:
        Tensor: ``(B, N, 4)``.
    """
    limits = sizes.flip(1).repeat(1, 2).to(boxes.dtype)
    return boxes.clamp(min=0).minimum(limits[:, None])


def kept_by_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    images: Tensor,
    iou_threshold: float,
    extent: int,
) -> Tensor:
    """Non-maximum suppression within each group of an image.

    Args:
        boxes (Tensor): ``(N, 4)`` as (x1, y1, x2, y2).
        scores (Tensor): ``(N,)``.
        groups (Tensor): Class or level of each box, ``(N,)`` int64.
        images (Tensor): Image of each box, ``(N,)`` int64.
        iou_threshold (float): Of two boxes that overlap more the lower one goes.
        extent (int): No coordinate is greater.

    Returns:
        Tensor: Indices of the kept boxes, ``(K,)`` int64, each image's by falling score.
    """
    # MMDetection shifts groups apart in float32, too: what is rounded here, is rounded there.
    shifted = boxes + (groups.to(boxes.dtype) * (extent + 1))[:, None]
    apart = shifted.double() + (images.double() * IMAGES_APART)[:, None]
    # Traced programs take it that NMS keeps two boxes at least: two without area, which it keeps.
    apart = torch.cat([apart, apart.new_zeros(2, 4)])
    kept = nms(apart, torch.cat([scores.double(), apart.new_full((2,), -1.0)]), iou_threshold)
    return kept[kept < boxes.shape[0]]


#: How far images are shifted apart: further than 4096 classes or levels of 4095 pixels.
IMAGES_APART = 2**24


def rank_in_image(images: Tensor, batch: int) -> Tensor:
    """How many of the same image come before each, ``(N,)`` int64 to ``(N,)`` int64."""
    is_image = images[:, None] == torch.arange(batch, device=images.device)
    before = is_image.long().cumsum(dim=0) - 1
    return before.gather(1, images[:, None]).squeeze(1)


def region_features(
    extractor: SingleRoIExtractor, maps: Sequence[Tensor], regions: Tensor
) -> Tensor:
    """What ``extractor`` gives, by torchvision's RoIAlign.

    Args:
        extractor (SingleRoIExtractor): Whose RoIAlign has average pooling.
        maps (Sequence[Tensor]): ``(B, C, H, W)``, as many as it takes.
        regions (Tensor): Image and box of each, ``(N, 5)``.

    Returns:
        Tensor: ``(N, C, h, w)``.
    """
    levels = extractor.map_roi_levels(regions, len(maps))
    height, width = extractor.roi_layers[0].output_size
    out = maps[0].new_zeros(regions.shape[0], maps[0].shape[1], height, width)
    for level, (layer, values) in enumerate(zip(extractor.roi_layers, maps)):
        (index,) = torch.where(levels == level)
        options = layer.spatial_scale, layer.sampling_ratio, layer.aligned
        found = roi_align(values, regions[index], (height, width), *options)
        out[index] = found
    return out
