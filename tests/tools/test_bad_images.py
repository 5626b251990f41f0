"""Images and annotations of every odd kind through a config's pipelines and a micro detector."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

import mmdet_atc  # noqa: F401
from mmdet_atc.datasets import DataError
from mmdet_atc.engine import load_config

from ..conftest import ROOT
from .micro_runs import CONFIG, losses
from .processes import run

SQUARE = [8, 8, 40, 8, 40, 40, 8, 40]
PIPELINES = ROOT / 'configs' / '_base_' / 'datasets' / 'coco_instance.py'


def thing(**changes) -> dict:
    return dict(
        category_id=1, bbox=[8, 8, 32, 32], area=1024, iscrowd=0, segmentation=[SQUARE], **changes
    )


def noise(*shape, dtype=np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def crowd() -> dict:
    mask = np.zeros((64, 96), np.uint8, order='F')
    mask[8:40, 8:40] = 1
    rle = coco_mask.encode(mask)
    return {**rle, 'counts': rle['counts'].decode()}


#: File name, pixels, changes to its one annotation (None: no annotation).
IMAGES = [
    ('plain.png', noise(64, 96, 3), {}),
    ('grey.png', noise(64, 96), {}),
    ('grey.jpg', noise(64, 96), {}),
    ('alpha.png', noise(64, 96, 4), {}),
    ('deep.png', noise(64, 96, 3, dtype=np.uint16), {}),
    ('deep_grey.tif', noise(64, 96, dtype=np.uint16), {}),
    ('turned.jpg', noise(64, 96, 3), {}),
    ('cmyk.jpg', noise(64, 96, 3), {}),
    ('palette.png', noise(64, 96, 3), {}),
    ('empty.png', noise(64, 96, 3), None),
    ('pixel.png', noise(1, 1, 3), dict(bbox=[0, 0, 1, 1], segmentation=[[0, 0, 1, 0, 1, 1]])),
    ('row.png', noise(8, 1600, 3), dict(bbox=[0, 0, 99, 8], segmentation=[[0, 0, 99, 0, 99, 8]])),
    ('huge.png', np.zeros((8000, 400, 3), np.uint8), {}),
    ('flat_box.png', noise(64, 96, 3), dict(bbox=[8, 8, 0, 32])),
    ('outside.png', noise(64, 96, 3), dict(bbox=[200, 200, 5, 5])),
    ('two_points.png', noise(64, 96, 3), dict(segmentation=[[8, 8, 40, 40]])),
    ('no_mask.png', noise(64, 96, 3), dict(segmentation=[])),
    ('crowd.png', noise(64, 96, 3), dict(segmentation=crowd(), iscrowd=1)),
]


def write(path, pixels) -> tuple[int, int]:
    """Write an image file; returns the height and width that its annotations are to have."""
    if path.name == 'turned.jpg':
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(path, exif=exif)
    elif path.name == 'cmyk.jpg':
        Image.fromarray(pixels).convert('CMYK').save(path)
    elif path.name == 'palette.png':
        Image.fromarray(pixels).convert('P').save(path)
    else:
        cv2.imwrite(str(path), pixels)
    return pixels.shape[:2]


@pytest.fixture(scope='module')
def odd(tmp_path_factory):
    """All of them as training and as validation set."""
    root = tmp_path_factory.mktemp('odd')
    (root / 'images').mkdir()
    images, annotations = [], []
    for number, (name, pixels, changes) in enumerate(IMAGES, 1):
        height, width = write(root / 'images' / name, pixels)
        images.append(dict(id=number, file_name=name, height=height, width=width))
        if changes is not None:
            annotation = {**thing(), **changes}
            annotations.append(dict(id=len(annotations) + 1, image_id=number, **annotation))
    classes = ('circle', 'rectangle', 'triangle', 'star')
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'all.json').write_text(json.dumps(content))
    return root


def dataset(odd, pipeline, **kwargs):
    init_default_scope('mmdet')
    return DATASETS.build(
        dict(
            type='CheckedCocoDataset', data_root=str(odd), ann_file='all.json',
            data_prefix=dict(img='images'), pipeline=pipeline,
            metainfo=dict(classes=('circle', 'rectangle', 'triangle', 'star')), **kwargs,
        )
    )  # fmt: skip


@pytest.mark.parametrize('split', ['train', 'test'])
def test_the_pipelines_of_the_paper_take_them(odd, split):
    """At full size, each image as it comes."""
    pipeline = Config.fromfile(PIPELINES)[f'{split}_pipeline']
    data = dataset(odd, pipeline, test_mode=split == 'test')
    assert len(data) == len(IMAGES)
    for index, (name, _, changes) in enumerate(IMAGES):
        np.random.seed(index)
        sample = data[index]
        inputs, instances = sample['inputs'], sample['data_samples'].gt_instances
        assert inputs.shape[0] == 3, name
        assert min(inputs.shape[1:]) >= 1, name
        assert max(inputs.shape[1:]) <= (1024 if split == 'train' else 1333), name
        assert sample['data_samples'].img_shape == tuple(inputs.shape[1:]), name
        good = name not in ('flat_box.png', 'outside.png', 'two_points.png', 'no_mask.png')
        if changes is None or not good or 'iscrowd' in changes:
            assert len(instances) == 0, name
        elif split == 'test':
            assert len(instances) == 1, name


def test_a_side_that_vanishes_when_resized_is_an_error_with_the_name(odd, tmp_path):
    content = json.loads((odd / 'all.json').read_text())
    content['images'] = [dict(id=5, file_name='line.png', height=1, width=8000)]
    content['annotations'] = []
    (tmp_path / 'all.json').write_text(json.dumps(content))
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'line.png'), noise(1, 8000, 3))
    data = dataset(tmp_path, Config.fromfile(PIPELINES).test_pipeline, test_mode=True)
    with pytest.raises(DataError, match=r'image 5 \(.*line\.png\): '):
        data[0]


@pytest.mark.slow
def test_a_detector_trains_and_evaluates_on_them(odd, tmp_path):
    cfg = load_config(str(ROOT / CONFIG), dict(total_batch_size=3))
    cfg.model.backbone.update(embed_dim=48)
    cfg.model.neck.in_channels = [48] * 4
    small = dict(type='Resize', scale=(160, 96), keep_ratio=True)
    load, resize, annotate, *rest = cfg.train_dataloader.dataset.pipeline
    assert (resize.type, annotate.type) == ('Resize', 'LoadAnnotations')
    cfg.train_dataloader.dataset.pipeline = [load, annotate, small, *rest]
    cfg.val_dataloader.dataset.pipeline[1] = small
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(
            data_root=str(odd), ann_file='all.json', data_prefix=dict(img='images')
        )
        loader.num_workers, loader.batch_size, loader.persistent_workers = 1, 3, False
    cfg.train_dataloader.dataset.filter_cfg = None
    cfg.val_evaluator.ann_file = str(odd / 'all.json')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.dump(str(tmp_path / 'odd.py'))
    result = run(odd, 'tools/train.py', str(tmp_path / 'odd.py'), '--work-dir', str(tmp_path))
    found = losses(tmp_path)
    assert len(found) == len(IMAGES) / 3
    assert np.isfinite(list(found.values())).all()
    assert (result.stdout + result.stderr).count('Average Precision  (AP)') == 12
