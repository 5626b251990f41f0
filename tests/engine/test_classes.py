"""Classes are named once; the heads count them."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmdet_atc.engine import load_config

from ..conftest import ROOT

FRUIT = """
_base_ = '{root}/configs/atc_vit_adapter_t_average_r50.py'
metainfo = dict(classes={classes})
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = test_dataloader = dict(dataset=dict(metainfo=metainfo))
"""
HEADS = ('bbox_head', 'mask_head')


@pytest.fixture
def load(tmp_path):
    def load(classes: str = "('apple', 'pear')", more: str = '', **options):
        path = tmp_path / 'fruit.py'
        path.write_text(FRUIT.format(root=ROOT, classes=classes) + more)
        return load_config(str(path), options)

    return load


def counts(cfg) -> list[int]:
    return [cfg.model.roi_head[head].num_classes for head in HEADS]


def test_both_heads_follow_the_names(load):
    assert counts(load()) == [2, 2]
    assert counts(load("('apple',)")) == [1, 1]


def test_names_may_be_in_a_file(load, tmp_path):
    (tmp_path / 'names.txt').write_text('apple\npear\nfig\n')
    assert counts(load(repr(str(tmp_path / 'names.txt')))) == [3, 3]


def test_a_config_that_builds_on_ours_follows_too(load, tmp_path):
    load(more='model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))')
    child = tmp_path / 'child.py'
    child.write_text(
        "_base_ = './fruit.py'\nmetainfo = dict(classes=('a', 'b', 'c'))\n"
        + '\n'.join(
            f'{loader}_dataloader = dict(dataset=dict(metainfo=metainfo))'
            for loader in ('train', 'val', 'test')
        )
    )
    assert counts(load_config(str(child))) == [3, 3]


def test_the_saved_config_is_whole(load, tmp_path):
    load().dump(tmp_path / 'saved.py')
    assert counts(Config.fromfile(tmp_path / 'saved.py')) == [2, 2]
    assert counts(load_config(str(tmp_path / 'saved.py'))) == [2, 2]


def test_coco_stays_as_it_is():
    path = str(ROOT / 'configs/atc_vit_adapter_t_average_r50.py')
    assert counts(load_config(path)) == [80, 80]


def test_stages_of_a_cascade_and_wrapped_data_follow(load):
    wrapped = """
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=2,
        dataset=dict(type='CheckedCocoDataset', metainfo=metainfo),
    )
)
"""
    assert counts(load(more=wrapped)) == [2, 2]
    stages = load(**{'model.roi_head.bbox_head': [dict(num_classes=2), dict(num_classes=2)]})
    assert [stage.num_classes for stage in stages.model.roi_head.bbox_head] == [2, 2]
    with pytest.raises(ValueError, match=r'model\.roi_head\.bbox_head\.1\.num_classes is 3, but'):
        load(**{'model.roi_head.bbox_head': [dict(num_classes=2), dict(num_classes=3)]})


@pytest.mark.parametrize(
    'stated',
    [
        dict(more='model = dict(roi_head=dict(mask_head=dict(num_classes=3)))'),
        {'model.roi_head.mask_head.num_classes': 3},
    ],
    ids=['in the file', 'on the command line'],
)
def test_a_stated_number_must_agree(load, stated):
    message = r'mask_head\.num_classes is 3, but the data have 2 classes \(apple, pear\)'
    with pytest.raises(ValueError, match=message):
        load(**stated)


def test_a_number_without_names_is_refused():
    path = str(ROOT / 'configs/atc_vit_adapter_t_average_r50.py')
    with pytest.raises(ValueError, match='is 2, but the data have 80 classes'):
        load_config(path, {'model.roi_head.bbox_head.num_classes': 2})


def test_all_data_sets_must_have_the_same_classes(load):
    message = r'train_dataloader has 2 classes \(apple, pear\), val_dataloader 80'
    with pytest.raises(ValueError, match=message):
        load(more='val_dataloader = dict(dataset=dict(metainfo=dict(_delete_=True)))')


@pytest.mark.parametrize('classes', ["('apple')", '()', '(1, 2)'])
def test_names_must_be_names(load, classes):
    with pytest.raises(ValueError, match=r"train_dataloader\.dataset\.metainfo\['classes'\] must"):
        load(classes)


def test_a_name_is_there_once(load):
    with pytest.raises(ValueError, match='names apple twice'):
        load("('apple', 'pear', 'apple')")


OTHER_DETECTORS = {
    'retinanet/retinanet_r50_fpn_1x_coco': ['bbox_head.num_classes'],
    'atss/atss_r50_fpn_1x_coco': ['bbox_head.num_classes'],
    'detr/detr_r50_8xb2-150e_coco': ['bbox_head.num_classes'],
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco': [
        'panoptic_head.num_things_classes',
        'panoptic_fusion_head.num_things_classes',
    ],
}


def of_mmdetection(tmp_path, name: str, more: str = ''):
    path = tmp_path / 'c.py'
    data = f'dict(dataset=dict(metainfo={dict(classes=("apple", "pear"))}))'
    loaders = '\n'.join(f'{split}_dataloader = {data}' for split in ('train', 'val', 'test'))
    path.write_text(f"_base_ = 'mmdet::{name}.py'\n{loaders}\n{more}")
    evaluators = {f'{s}_evaluator.ann_file': 'any.json' for s in ('val', 'test')}
    return load_config(str(path), evaluators)


@pytest.mark.parametrize('name', OTHER_DETECTORS)
def test_heads_of_other_detectors_follow(tmp_path, name):
    cfg = of_mmdetection(tmp_path, name)
    for key in OTHER_DETECTORS[name]:
        head, key = key.split('.')
        assert cfg.model[head][key] == 2


def test_a_list_of_weights_follows_the_classes(tmp_path):
    name = 'mask2former/mask2former_r50_8xb2-lsj-50e_coco'
    loss = of_mmdetection(tmp_path, name).model.panoptic_head.loss_cls
    assert loss.class_weight == [1.0, 1.0, 0.1]
    own = 'model = dict(panoptic_head=dict(loss_cls=dict(class_weight=[1.0, 3.0, 0.1])))'
    loss = of_mmdetection(tmp_path, name, own).model.panoptic_head.loss_cls
    assert loss.class_weight == [1.0, 3.0, 0.1]
    other = own.replace('[1.0, 3.0, 0.1]', '[2.0] + [1.0] * 79 + [0.1]')
    with pytest.raises(ValueError, match='81 different weights, for 80 classes: give them for the'):
        of_mmdetection(tmp_path, name, other)
