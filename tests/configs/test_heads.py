"""Other heads of MMDetection on the backbone: each learns real images, in float32 and bfloat16."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import defaultdict
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoPanopticDataset
from mmdet.evaluation.functional import INSTANCE_OFFSET, panoptic_utils
from mmdet.evaluation.metrics import coco_panoptic_metric
from mmdet.registry import DATASETS, METRICS, MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pycocotools.coco import COCO

from mmdet_atc.engine import load_config
from mmdet_atc.engine.device import adapt_to_device

from .on_meta import on_meta
from .test_configs import CONFIGS, NO_BFLOAT16
from .test_configs import OTHER_HEADS as DENSE
from .test_configs import OTHER_HEADS_ATC as ATC

#: As published: ViT-Adapter's README for the first three, in millions.
PARAMETERS = dict(cascade_mask_rcnn=86, atss=36, gfl=36)
#: What makes a detector small enough for a test, where a config has the key.
SMALL = dict(
    num_layers=2, num_queries=20, num_points=200, num=32, nms_pre=100, max_per_img=50,
    fc_out_channels=64, conv_out_channels=32,
)  # fmt: skip
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]


def smaller(node, channels):
    """Few layers and queries, and a backbone of few channels, in place."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, list) and set(map(str, value)) == {'384'}:
            node[key] = [channels] * len(value)
        elif key in SMALL and isinstance(value, int):
            node[key] = min(value, SMALL[key])
        elif isinstance(value, (dict, list)):
            smaller(value, channels)


def tiny(name):
    """A config as it is, but for its size."""
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    smaller(cfg.model, channels=48)
    cfg.model.backbone.update(
        embed_dim=48,
        num_heads=3,
        deform_num_heads=3,
        conv_inplane=8,
        drop_path_rate=0,
        init_cfg=None,
    )
    for augment in cfg.model.data_preprocessor.get('batch_augments') or ():
        augment.size = (128, 128)
    adapt_to_device(cfg)
    return cfg


def built(cfg):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()  # some of mmdet's parameters hold anything before
    return model


@pytest.mark.parametrize('name', DENSE + ATC)
def test_the_parts_of_a_config_are_the_ones_it_says(name):
    cfg, model = load_config(str(CONFIGS / f'{name}.py')), on_meta(name)
    head = name.partition('_vit')[0].removesuffix('_atc')
    if head in PARAMETERS:
        count = sum(parameter.numel() for parameter in model.parameters())
        assert round(count / 1e6) == PARAMETERS[head]
    assert type(model.backbone).__name__ == ('ATCViTAdapter' if '_atc_' in name else 'ViTAdapter')
    windows = 'window' in name
    assert any(model.backbone.window_sizes) == windows
    if name in ATC:
        assert cfg.optim_wrapper.optimizer.lr == 1e-5
        assert cfg.train_cfg.max_epochs == 4
        start = cfg.load_from.split('/')[1]
        assert start in DENSE
        assert set(model.state_dict()) == set(on_meta(start).state_dict())


class PanopticCounts(defaultdict):
    """Of each category, as PQStat of panopticapi, a package that is on no index."""

    def __init__(self):
        super().__init__(lambda: SimpleNamespace(tp=0, fp=0, fn=0, iou=0.0))

    def __iadd__(self, other):
        for category, counts in other.items():
            for name, value in vars(counts).items():
                vars(self[category])[name] += value
        return self

    def pq_average(self, categories, isthing):
        """Equation 1 of "Panoptic Segmentation", the mean over the categories that there are."""
        ids = [x for x, it in categories.items() if isthing is None or it['isthing'] == isthing]
        found = [self[x] for x in ids if self[x].tp + self[x].fp + self[x].fn]
        recognised = [x.tp / (x.tp + x.fp / 2 + x.fn / 2) for x in found]
        segmented = [x.iou / max(x.tp, 1) for x in found]
        quality = [rq * sq for rq, sq in zip(recognised, segmented)]
        parts = dict(pq=quality, sq=segmented, rq=recognised)
        return {k: np.mean(v) for k, v in parts.items()} | dict(n=len(found)), {}


@pytest.fixture
def panopticapi(monkeypatch):
    """What training and evaluation need of that package, where it is not."""
    if importlib.util.find_spec('panopticapi') is None:
        powers = np.array([1, 256, 256**2])
        colours = SimpleNamespace(
            rgb2id=lambda rgb: rgb.astype(int) @ powers,
            id2rgb=lambda ids: ids[..., None] // powers % 256,
        )
        package = SimpleNamespace(utils=colours)
        monkeypatch.setitem(sys.modules, 'panopticapi', package)
        for module in (coco_panoptic_metric, panoptic_utils):
            names = dict(panopticapi=package, PQStat=PanopticCounts, VOID=0, **vars(colours))
            for name, value in names.items():
                monkeypatch.setattr(module, name, value, raising=False)


@pytest.fixture(scope='module')
def panoptic_coco(coco_tiny, tmp_path_factory):
    """coco_tiny with panoptic annotations: its objects, and all else one kind of stuff."""
    root = tmp_path_factory.mktemp('panoptic')
    stuff = dict(enumerate(CocoPanopticDataset.METAINFO['classes'][80:], start=200))
    for split in ('train2017', 'val2017'):
        coco = COCO(coco_tiny / 'annotations' / f'instances_{split}.json')
        folder = root / 'annotations' / f'panoptic_{split}'
        folder.mkdir(parents=True)
        (root / split).symlink_to(coco_tiny / split)
        categories = [dict(category, isthing=1) for category in coco.dataset['categories']]
        categories += [dict(id=key, name=name, isthing=0) for key, name in stuff.items()]
        annotations = []
        for image in coco.dataset['images']:
            ids = np.full((image['height'], image['width']), 1)
            segments = {1: max(stuff)}
            for number, annotation in enumerate(coco.imgToAnns[image['id']], start=2):
                ids[coco.annToMask(annotation) > 0] = number
                segments[number] = annotation['category_id']
            name = f'{image["id"]:012d}.png'
            # The number is red + 256 green.
            picture = np.stack([np.zeros_like(ids), ids // 256, ids % 256], -1)
            cv2.imwrite(str(folder / name), picture.astype(np.uint8))
            info = []
            for number in np.unique(ids).tolist():
                ys, xs = np.nonzero(ids == number)
                x, y = int(xs.min()), int(ys.min())
                box = [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y]
                info.append(
                    dict(id=number, category_id=segments[number], iscrowd=0, bbox=box, area=len(xs))
                )
            annotations.append(dict(image_id=image['id'], file_name=name, segments_info=info))
        content = dict(
            images=coco.dataset['images'], annotations=annotations, categories=categories
        )
        (root / 'annotations' / f'panoptic_{split}.json').write_text(json.dumps(content))
    return root


@pytest.fixture(scope='module')
def boxes_coco(coco_tiny, tmp_path_factory):
    """coco_tiny with boxes and no masks."""
    root = tmp_path_factory.mktemp('boxes')
    (root / 'annotations').mkdir()
    for split in ('train2017', 'val2017'):
        (root / split).symlink_to(coco_tiny / split)
        name = f'annotations/instances_{split}.json'
        content = json.loads((coco_tiny / name).read_text())
        for annotation in content['annotations']:
            del annotation['segmentation']
        (root / name).write_text(json.dumps(content))
    return root


def of_two_images(cfg, root, pipeline):
    """A training set of two images, always the same way round."""
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(root), indices=2)
    dataset.pipeline = pipeline
    cfg.train_dataloader.update(batch_size=2, num_workers=0)
    cfg.train_dataloader.pop('worker_init_fn')


@pytest.mark.slow
@pytest.mark.parametrize('name', ATC)
def test_each_head_learns_real_images(name, request, panopticapi, tmp_path):
    cfg = tiny(name)
    is_panoptic = 'panoptic' in name
    load = cfg.train_dataloader.dataset.pipeline[1]
    has_masks = load.get('with_mask', False)
    kind = 'panoptic_coco' if is_panoptic else 'coco_tiny' if has_masks else 'boxes_coco'
    assert has_masks == (name.split('_')[0] not in ('atss', 'gfl', 'dino'))
    root = request.getfixturevalue(kind)
    pipeline = [PIPELINE[0], load, *PIPELINE[1:]]
    of_two_images(cfg, root, pipeline)
    steps = dict(cascade=4, dino=24).get(name.partition('_')[0], 12)
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'load_from': None,
            'optim_wrapper.optimizer.lr': 1e-3,
            'param_scheduler': None,
            'train_cfg.max_epochs': steps,
            'train_cfg.val_interval': steps,
            'val_dataloader.num_workers': 0,
            'val_dataloader.persistent_workers': False,
            'val_dataloader.dataset.indices': 2,
            'val_dataloader.dataset.data_root': str(root),
            'val_dataloader.dataset.pipeline': pipeline,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.interval': steps,
            'visualizer.name': name,  # there is one of each name in a process
            'randomness': dict(seed=0),
        }
    )
    for key in {'ann_file', 'seg_prefix'} & set(cfg.val_evaluator):
        cfg.val_evaluator[key] = cfg.val_evaluator[key].replace('data/coco', str(root))
    runner = Runner.from_cfg(cfg)
    runner.train()
    records = [json.loads(line) for line in next(tmp_path.rglob('scalars.json')).open()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == steps
    assert losses[-1] < 0.9 * losses[0]
    assert (tmp_path / f'epoch_{steps}.pth').exists()
    # After these steps nothing may be found, of which MMDetection logs no figures.
    assert 'loss' not in records[-1]
    assert records[-1]['step'] == steps
    assert not is_panoptic or 0 <= records[-1]['coco_panoptic/PQ'] <= 100


def test_panoptic_quality_is_measured(panoptic_coco, panopticapi):
    """The truth has all of it; less one of two images' labels, less."""
    cfg = load_config(str(CONFIGS / 'mask2former_panoptic_vit_adapter_s_50e.py'))
    init_default_scope('mmdet')
    dataset = cfg.val_dataloader.dataset
    dataset.update(data_root=str(panoptic_coco), indices=2)
    dataset = DATASETS.build(dataset)
    for key in ('ann_file', 'seg_prefix'):
        cfg.val_evaluator[key] = cfg.val_evaluator[key].replace('data/coco', str(panoptic_coco))
    found = []
    for wrong in (0, 1):
        metric = METRICS.build(cfg.val_evaluator)
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            ids = cv2.imread(info['seg_map_path']).astype(int) @ (256**2, 256, 1)
            labels = np.zeros_like(ids)
            for segment in info['segments_info']:
                label = (segment['category'] + wrong * index) % len(dataset.metainfo['classes'])
                labels[ids == segment['id']] = label + segment['id'] * INSTANCE_OFFSET
            predicted = dict(sem_seg=torch.from_numpy(labels)[None])
            shape = dict(img_path=info['img_path'], ori_shape=labels.shape)
            metric.process({}, [dict(shape, img_id=info['img_id'], pred_panoptic_seg=predicted)])
        found.append(metric.evaluate(len(dataset)))
    right, wrong = found
    assert [right[f'coco_panoptic/PQ{kind}'] for kind in ('', '_th', '_st')] == [100] * 3
    assert 0 < wrong['coco_panoptic/PQ'] < 60


@pytest.mark.parametrize('dtype', [torch.float32, pytest.param(torch.bfloat16, marks=NO_BFLOAT16)])
@pytest.mark.parametrize('name', DENSE + ATC)
def test_forward_and_loss(name, dtype):
    model = built(tiny(name))
    things = getattr(getattr(model, 'panoptic_head', None), 'num_things_classes', 80)
    data = demo_mm_inputs(
        2, [[3, 96, 128], [3, 90, 96]], num_items=(3, 2), num_classes=things, with_mask=True,
        with_semantic='panoptic' in name,
    )  # fmt: skip
    data = model.data_preprocessor(data, True)
    with torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float32):
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    loss.backward()
    assert model.backbone.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float32):
        found = model(**data, mode='predict')
    assert len(found) == 2
