"""Detections are drawn once an object, and large enough to read."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from mmdet_atc.visualization.detections import draw_detections


def test_the_best_box_of_an_object_is_drawn_and_small_images_are_enlarged():
    boxes = torch.tensor([[10.0, 10, 50, 50], [12, 11, 50, 52], [80, 60, 120, 90], [0, 0, 9, 9]])
    masks = torch.zeros(4, 100, 130, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = True
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=boxes,
            scores=torch.tensor([0.6, 0.9, 0.8, 0.2]),
            labels=torch.tensor([0, 1, 0, 1]),
            masks=masks,
        )
    )
    visualizer = DetLocalVisualizer(name='detections')
    visualizer.dataset_meta = dict(classes=('a', 'b'), palette=[(255, 0, 0), (0, 0, 255)])
    image = np.full((100, 130, 3), 200, dtype=np.uint8)
    picture, count = draw_detections(visualizer, image, sample, 0.3)
    assert count == 2
    assert picture.shape == (400, 520, 3)
    assert len(sample.pred_instances) == 4
    # Inside the objects there are masks; where nothing scores enough, the image.
    assert (picture[160, 120] != 200).any()
    assert (picture[300, 400] != 200).any()
    assert (picture[20, 20] == 200).all()

    large = np.full((500, 600, 3), 200, dtype=np.uint8)
    nothing = DetDataSample(
        pred_instances=InstanceData(
            bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long()
        )
    )
    picture, count = draw_detections(visualizer, large, nothing, 0.3)
    assert count == 0
    assert picture.shape == large.shape
