"""Detections drawn so that they can be read: small images enlarged, one label for each object."""

from __future__ import annotations

import math

import cv2
import numpy as np
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from torchvision.ops import nms

#: Labels are legible on pictures of this size.
_SHORT_SIDE = 384
#: Boxes that overlap more are taken for one object, of whatever class.
_ONE_OBJECT = 0.5


def draw_detections(
    visualizer: DetLocalVisualizer, image: np.ndarray, sample: DetDataSample, score_thr: float
) -> tuple[np.ndarray, int]:
    """Boxes, masks and labels on an image; of boxes that cover each other, the best one.

    Args:
        visualizer (DetLocalVisualizer): Knows the names and colours of the classes.
        image (ndarray): RGB, ``(H, W, 3)`` uint8.
        sample (DetDataSample): Its detections, on any device.
        score_thr (float): Draw what scores more.

    Returns:
        tuple[ndarray, int]: RGB picture, ``(s * H, s * W, 3)`` uint8 with the least whole s that
        makes it large enough for labels, and the number of objects in it.
    """
    found = sample.pred_instances.cpu()
    found = found[found.scores > score_thr]
    found = found[nms(found.bboxes, found.scores, _ONE_OBJECT)]
    scale = math.ceil(_SHORT_SIDE / min(image.shape[:2]))
    if scale > 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        found = _enlarged(found, scale)
    visualizer.add_datasample(
        'detections', image, DetDataSample(pred_instances=found), draw_gt=False, pred_score_thr=0
    )
    return visualizer.get_image(), len(found)


def _enlarged(found: InstanceData, scale: int) -> InstanceData:
    larger = InstanceData(bboxes=found.bboxes * scale, labels=found.labels, scores=found.scores)
    if 'masks' in found:
        masks = np.asarray(found.masks)
        larger.masks = masks.repeat(scale, axis=1).repeat(scale, axis=2)
    return larger
