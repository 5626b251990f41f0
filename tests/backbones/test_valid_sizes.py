"""Whatever calls a detector, its backbone knows the sizes of the pictures in the padded batch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdet_atc.engine import load_config

from ..conftest import ROOT

SIZES = ((40, 90), (64, 50))


def config() -> Config:
    cfg = load_config(str(ROOT / 'configs' / 'atc_vit_adapter_micro_shapes.py'))
    cfg.model.backbone.padding_aware = True
    cfg.model.backbone.init_cfg = None
    return cfg


@pytest.fixture
def detector():
    return MODELS.build(config().model).eval()


@pytest.fixture
def seen(monkeypatch):
    """The sizes that backbones found for their calls."""
    from mmdet_atc.backbones import ATCViTAdapter

    sizes = []
    padding = ATCViTAdapter._padding

    def look(self, image, valid_sizes):
        sizes.append(self.valid_sizes_of_call)
        return padding(self, image, valid_sizes)

    monkeypatch.setattr(ATCViTAdapter, '_padding', look)
    return sizes


def batch(sizes=SIZES) -> dict:
    samples = []
    for size in sizes:
        instances = InstanceData(
            bboxes=torch.tensor([[4.0, 5, 30, 35]]),
            labels=torch.tensor([0]),
            masks=bitmap(size),
        )
        sample = DetDataSample(
            metainfo=dict(
                img_id=0,
                img_shape=size,
                ori_shape=size,
                scale_factor=(1.0, 1.0),
                flip=False,
                flip_direction=None,
            ),
            gt_instances=instances,
        )
        samples.append(sample)
    images = [torch.randint(1, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    return dict(inputs=images, data_samples=samples)


def bitmap(size):
    from mmdet.structures.mask import BitmapMasks

    mask = np.zeros((1, *size), dtype=np.uint8)
    mask[0, 5:35, 4:30] = 1
    return BitmapMasks(mask, *size)


def test_training(detector, seen):
    optimizer = torch.optim.SGD(detector.parameters(), 1e-4)
    detector.train().train_step(batch(), OptimWrapper(optimizer))
    assert seen == [SIZES]


def test_testing(detector, seen):
    detector.test_step(batch())
    detector.val_step(batch(SIZES[:1]))
    assert seen == [SIZES, SIZES[:1]]


def test_a_copy_as_of_an_exponential_moving_average(detector, seen):
    copy.deepcopy(detector).test_step(batch())
    assert seen == [SIZES]


def test_test_time_augmentation(seen):
    cfg = config().model
    cfg.roi_head.mask_head = cfg.roi_head.mask_roi_extractor = None  # mmdet merges boxes only
    tta_cfg = ConfigDict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
    tta = DetTTAModel(tta_cfg=tta_cfg, module=MODELS.build(cfg).eval())
    views = [batch(SIZES[:1]), batch(((64, 96),))]
    tta.test_step({key: [view[key] for view in views] for key in ('inputs', 'data_samples')})
    assert seen == [SIZES[:1], ((64, 96),)]


def test_mmdets_apis(detector, seen):
    init_default_scope('mmdet')
    detector.cfg = config()
    image = np.random.default_rng(0).integers(0, 256, (60, 150, 3), dtype=np.uint8)
    result = inference_detector(detector, image)
    assert seen == [(tuple(result.img_shape[:2]),)]


def test_outside_of_a_detectors_call_there_are_none(detector, seen):
    detector.test_step(batch())
    detector.backbone(torch.rand(1, 3, 64, 64))
    assert seen == [SIZES, None]
