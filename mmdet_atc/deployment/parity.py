"""How far a program's detections are from those of the model that it was made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from .detector import Detections, TraceableDetector
from .results import of_image

#: A batch: pixels and sizes, as :meth:`TraceableDetector.forward` takes them.
Batch = tuple[Tensor, Tensor]
#: Scores this near to the threshold may be on either side of it.
_SCORE_TOLERANCE = 1e-3


@dataclass
class Parity:
    """The largest differences over all detections of a comparison.

    Args:
        boxes (float): Of a coordinate, in pixels; infinite where a detection has no counterpart.
        scores (float): Of a score.
        masks (float): Smallest intersection over union of two masks.
        detections (int): How many detections of the model were compared.
    """

    boxes: float = 0.0
    scores: float = 0.0
    masks: float = 1.0
    detections: int = 0

    def is_within(self, boxes: float = 0.1, scores: float = 1e-3, masks: float = 0.99) -> bool:
        """Whether no difference is above these."""
        return self.boxes <= boxes and self.scores <= scores and self.masks >= masks

    def __str__(self) -> str:
        return (
            f'{self.detections} detections: boxes within {self.boxes:.2g} px, scores within '
            f"{self.scores:.2g}, masks' IoU at least {self.masks:.4f}"
        )


def compare(
    model: TwoStageDetector,
    program: Callable[[Tensor, Tensor], Detections],
    batches: Iterable[Batch],
    threshold: float = 0.05,
) -> Parity:
    """Run both on the same padded batches.

    Args:
        model (TwoStageDetector): In evaluation mode; its own prediction is the reference.
        program (Callable): A :class:`TraceableDetector` or what was made of it.
        batches (Iterable[Batch]): Pixels and sizes.
        threshold (float): Detections of at least this score are compared. Default: 0.05.

    Returns:
        Parity: Over all batches.
    """
    parity = Parity()
    at_least = model.test_cfg.rcnn.get('mask_thr_binary', 0.5)
    for pixels, sizes in batches:
        found = program(pixels, sizes)
        for index, expected in enumerate(predicted(model, pixels, sizes)):
            height, width = sizes[index].tolist()
            ours = of_image(found, index, (height, width), at_least)
            _compare_image(parity, expected, ours, threshold)
    return parity


@torch.no_grad()
def predicted(model: TwoStageDetector, pixels: Tensor, sizes: Tensor) -> list[InstanceData]:
    """What the model itself predicts for padded images, in their pixels."""
    samples = []
    for size in map(tuple, sizes.tolist()):
        meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
        samples.append(DetDataSample(metainfo={**meta, 'batch_input_shape': pixels.shape[2:]}))
    image = TraceableDetector(model).normalised(pixels, sizes)
    found = model.predict(image, samples, rescale=False)
    return [sample.pred_instances for sample in found]


def _compare_image(
    parity: Parity, expected: InstanceData, found: InstanceData, threshold: float
) -> None:
    parity.detections += int((expected.scores >= threshold).sum())
    for ours, theirs in ((expected, found), (found, expected)):
        for one in ours[ours.scores >= threshold + _SCORE_TOLERANCE]:
            _compare_detection(parity, one, theirs[theirs.labels == one.labels])


def _compare_detection(parity: Parity, one: InstanceData, others: InstanceData) -> None:
    """With the nearest of the other side."""
    if not len(others):
        parity.boxes = math.inf
        return
    boxes = (others.bboxes - one.bboxes).abs().amax(dim=1)
    scores = (others.scores - one.scores).abs()
    # Boxes of the same place differ in their score.
    index = int((boxes + scores).argmin())
    parity.boxes = max(parity.boxes, boxes[index].item())
    parity.scores = max(parity.scores, scores[index].item())
    if 'masks' in one:
        mask, other = one.masks[0], others.masks[index]
        union = (mask | other).sum().item()
        if union:
            parity.masks = min(parity.masks, (mask & other).sum().item() / union)
