"""The traceable detector gives what MMDetection's gives."""

from __future__ import annotations

import copy

import mmcv
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmdet_atc.backbones import SViTAdapter
from mmdet_atc.deployment import TraceableDetector, compare
from mmdet_atc.engine import load_config

SIZES = ((128, 192), (96, 160))


@pytest.fixture(scope='module')
def batch(images):
    """Two real images, one of which is padded below and beside."""
    pixels = torch.zeros(2, 3, 128, 192, dtype=torch.uint8)
    for index, ((height, width), path) in enumerate(zip(SIZES, images, strict=False)):
        picture = mmcv.imresize(mmcv.imread(path, channel_order='rgb'), (width, height))
        pixels[index, :, :height, :width] = torch.from_numpy(picture).permute(2, 0, 1)
    return pixels, torch.tensor(SIZES)


def build(config, **options):
    init_default_scope('mmdet')
    dotted = {name.replace('__', '.'): value for name, value in options.items()}
    return MODELS.build(load_config(config, dotted).model).eval()


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(model__roi_head__bbox_head__reg_class_agnostic=True),
        dict(model__roi_head__mask_head__class_agnostic=True),
        dict(model__roi_head__mask_head=None, model__roi_head__mask_roi_extractor=None),
        dict(model__data_preprocessor__bgr_to_rgb=False),
        dict(model__test_cfg__rpn__min_bbox_size=20, model__test_cfg__rpn__nms_pre=40),
        dict(model__test_cfg__rpn__max_per_img=7),
        dict(model__test_cfg__rcnn__score_thr=0.22),
        dict(model__neck__add_extra_convs='on_output', model__neck__num_outs=5),
    ],
    ids=lambda options: ','.join(name.split('__')[-1] for name in options) or 'as it is',
)
def test_it_finds_what_the_model_finds(config, batch, options):
    model = build(config, **options)
    parity = compare(model, TraceableDetector(model), [batch])
    assert parity.detections > 5
    assert parity.is_within(boxes=1e-3, scores=1e-5), parity


def test_what_is_beside_a_picture_does_not_count(config, batch):
    detector = TraceableDetector(build(config))
    pixels, sizes = batch
    other = pixels.clone()
    other[1, :, 96:] = 255
    other[1, :, :, 160:] = 255
    found, expected = detector(other, sizes), detector(pixels, sizes)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_a_comparison_sees_what_is_not_the_same(config, batch):
    model = build(config)
    detector = TraceableDetector(model)

    def moved(pixels, sizes):
        found = detector(pixels, sizes)
        return {**found, 'boxes': found['boxes'] + 0.5, 'scores': found['scores'] - 0.01}

    parity = compare(model, moved, [batch])
    assert parity.boxes == pytest.approx(0.5, abs=1e-3)
    assert parity.scores == pytest.approx(0.01, abs=1e-3)
    assert not parity.is_within()
    fewer = compare(model, lambda *x: {k: v[:3] for k, v in detector(*x).items()}, [batch])
    assert not fewer.is_within()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(model__backbone__padding_aware=True), 'padding_aware cannot be exported'),
        (dict(model__test_cfg__rcnn__nms__type='soft_nms'), r'test_cfg\.rcnn\.nms, got .*soft_nms'),
    ],
)
def test_what_cannot_be_exported_is_named(config, options, message):
    with pytest.raises(ValueError, match=message):
        TraceableDetector(build(config, **options))


def test_other_parts_are_named(config):
    model = build(config)
    other = copy.copy(model)
    other.backbone = SViTAdapter(embed_dim=48, num_heads=3)
    with pytest.raises(ValueError, match='SViTAdapter cannot be exported'):
        TraceableDetector(other)
    other = copy.copy(model)
    other.rpn_head = torch.nn.Identity()
    with pytest.raises(ValueError, match='takes a RPNHead as rpn_head, got Identity'):
        TraceableDetector(other)
    with pytest.raises(ValueError, match=r'TwoStageDetector.*got Identity'):
        TraceableDetector(torch.nn.Identity())
