"""Each image and its mirror image."""

from __future__ import annotations

import pytest
from mmdet.datasets.transforms import PackDetInputs
from mmengine.config import Config

from mmdet_atc.engine import load_config
from mmdet_atc.engine.tta import augment_test

from ..conftest import ROOT

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64))]


def config(**changes) -> Config:
    dataset = dict(pipeline=[*PIPELINE, dict(type='PackDetInputs', meta_keys=('img_id',))])
    model = dict(type='RetinaNet', bbox_head=dict(num_classes=2))
    return Config(dict(model=model, test_dataloader=dict(dataset=dataset), **changes))


def test_the_last_transform_is_done_twice():
    cfg = config()
    augment_test(cfg)
    assert (cfg.model.type, cfg.model.module.type) == ('DetTTAModel', 'RetinaNet')
    *loading, augmented = cfg.test_dataloader.dataset.pipeline
    assert loading == PIPELINE
    flips, (pack,) = augmented.transforms
    assert [flip.prob for flip in flips] == [1.0, 0.0]
    options = dict(pack)
    assert options.pop('type') == 'PackDetInputs'
    assert {'flip', 'flip_direction'} < set(PackDetInputs(**options).meta_keys)


def test_what_the_config_has_for_it_is_taken():
    own = [*PIPELINE, dict(type='TestTimeAug', transforms=[[dict(type='PackDetInputs')]])]
    cfg = config(tta_model=dict(type='Mine'), tta_pipeline=own)
    augment_test(cfg)
    assert cfg.model.type == 'Mine'
    assert cfg.test_dataloader.dataset.pipeline == own


def test_masks_cannot_be_merged():
    cfg = load_config(str(ROOT / 'configs' / 'atc_vit_adapter_micro_shapes.py'))
    with pytest.raises(ValueError, match='--tta: MMDetection merges boxes alone'):
        augment_test(cfg)


def test_a_pipeline_that_ends_otherwise_is_refused():
    cfg = config()
    cfg.test_dataloader.dataset.pipeline = PIPELINE
    with pytest.raises(ValueError, match='must end with PackDetInputs, not Resize'):
        augment_test(cfg)
