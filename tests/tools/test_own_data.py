"""docs/custom_data.md as it stands, on generated data with two other classes."""

from __future__ import annotations

import copy
import json
import re
import shutil

import pytest
import torch
from mmdet.apis import init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmdet_atc.engine import load_config, set_total_batch_size

from ..conftest import ROOT
from .micro_runs import CONFIG, SMALL, untrained
from .processes import run

NAMES = {'circle': 'apple', 'rectangle': 'pear'}


def blocks() -> list[str]:
    """Python code of the page."""
    text = (ROOT / 'docs/custom_data.md').read_text()
    return re.findall(r'```python\n(.*?)```', text, re.DOTALL)


@pytest.fixture
def fruit(data, tmp_path):
    """Config of the page's first block, for a micro model and data of two classes."""
    for split in ('train', 'val'):
        shutil.copytree(data / f'{split}2017', tmp_path / split)
        file = data / 'annotations' / f'instances_{split}2017.json'
        content = json.loads(file.read_text())
        content['categories'] = [
            {**category, 'name': NAMES[category['name']]}
            for category in content['categories']
            if category['name'] in NAMES
        ]
        kept = {category['id'] for category in content['categories']}
        content['annotations'] = [a for a in content['annotations'] if a['category_id'] in kept]
        (tmp_path / f'{split}.json').write_text(json.dumps(content))
    text = blocks()[0]
    assert len(text.strip().splitlines()) == 10
    text = text.replace('./configs/_base_/own_data_t.py', str(ROOT / CONFIG))
    path = tmp_path / 'fruit.py'
    path.write_text(text.replace('/data/fruit/', f'{tmp_path}/'))
    return path


@pytest.fixture
def four_classes(tmp_path):
    """Checkpoint of the micro model as its config has it, with four classes."""
    path = tmp_path / 'four.pth'
    torch.save(dict(state_dict=untrained()), path)
    return path


@pytest.mark.slow
def test_two_classes_from_a_checkpoint_of_four(data, fruit, four_classes, tmp_path):
    work_dir = tmp_path / 'work'
    small = [
        *SMALL,
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.dataset.indices=4',
    ]
    trained = run(
        data, 'tools/train.py', str(fruit), '--work-dir', str(work_dir),
        '--cfg-options', *small, f'load_from={four_classes}',
    )  # fmt: skip
    text = trained.stdout + trained.stderr
    assert 'num_classes of roi_head.bbox_head and roi_head.mask_head is 2' in text
    assert 'Random weights, for new classes: roi_head.bbox_head.fc_cls.weight' in text
    last = json.loads(next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()[-1])
    assert 'coco/segm_mAP' in last

    checkpoint = work_dir / 'epoch_1.pth'
    tested = run(
        data, 'tools/test.py', str(fruit), str(checkpoint), '--work-dir', str(tmp_path / 'test'),
        '--cfg-options', *small, 'test_evaluator.classwise=True',
    )  # fmt: skip
    assert re.search(r'\| apple +\|', tested.stdout + tested.stderr)

    # What training saved is whole: MMDetection reads it alone.
    model = init_detector(str(work_dir / 'fruit.py'), str(checkpoint), device='cpu')
    assert tuple(model.dataset_meta['classes']) == ('apple', 'pear')
    assert model.roi_head.bbox_head.fc_cls.out_features == 3
    assert model.roi_head.mask_head.conv_logits.out_channels == 2

    # A checkpoint that is evaluated must fit.
    failed = run(
        data, 'tools/test.py', str(fruit), str(four_classes), '--work-dir', str(tmp_path / 'test'),
        '--cfg-options', *small, check=False,
    )  # fmt: skip
    assert failed.returncode == 1
    assert 'the file knows 4 classes, the config 2' in failed.stderr


def test_the_recipe_warms_up_for_a_tenth_and_teaches_what_is_new_faster():
    cfg = load_config(str(ROOT / 'configs/_base_/own_data_t.py'))
    set_total_batch_size(cfg, 1)
    images = cfg.train_cfg.max_iters * cfg.train_dataloader.batch_size
    assert images == 24_000
    warm_up, then = cfg.param_scheduler
    assert warm_up.end == then.begin == cfg.train_cfg.max_iters / 10
    assert then.end == cfg.train_cfg.max_iters
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == warm_up.end

    init_default_scope('mmdet')
    model = MODELS.build({**cfg.model, 'backbone': {**cfg.model.backbone, 'init_cfg': None}})
    recipe = {key: cfg.optim_wrapper[key] for key in ('optimizer', 'paramwise_cfg')}
    optimizer = build_optim_wrapper(model, recipe)
    rates = {id(group['params'][0]): group['lr'] for group in optimizer.param_groups}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(1e-5 if 'backbone' in name else 1e-4), name


def test_the_page_says_how_a_part_stays_as_it_is():
    (line,) = [block for block in blocks() if 'lr_mult=0' in block]
    options = {}
    exec(line, options)
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 2)))
    optimizer = dict(type='AdamW', lr=0.1, weight_decay=0.5)
    wrapper = build_optim_wrapper(model, dict(optimizer=optimizer, **options['optim_wrapper']))
    before = copy.deepcopy(model.state_dict())
    wrapper.update_params(model['head'](model['backbone'](torch.ones(1, 2))).square().sum())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith('backbone'), name


def test_two_more_lines_make_it_whole_for_mmdetection(fruit):
    assert Config.fromfile(fruit).model.roi_head.mask_head.num_classes == 4
    (more,) = [block for block in blocks() if block.startswith('heads = ')]
    fruit.write_text(fruit.read_text() + more)
    for read in (Config.fromfile, load_config):
        heads = read(str(fruit)).model.roi_head
        assert heads.bbox_head.num_classes == heads.mask_head.num_classes == 2
