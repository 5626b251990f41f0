"""Runs of the micro detector and what they leave in their work dirs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor

from mmdet_atc.engine import load_config

from ..conftest import ROOT

CONFIG = 'configs/atc_vit_adapter_micro_shapes.py'
MODEL_OPTIONS = {
    'model.backbone.embed_dim': 48,
    'model.backbone.drop_path_rate': 0.1,
    'model.neck.in_channels': [48, 48, 48, 48],
}
SMALL = [
    *(f'{name}={value}'.replace(' ', '') for name, value in MODEL_OPTIONS.items()),
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.checkpoint.max_keep_ckpts=2',
    'train_dataloader.batch_size=4',
    'total_batch_size=4',
]


def untrained(config: str = CONFIG, options: dict | None = None) -> dict[str, Tensor]:
    """State dict of a config's detector, by default the micro one; random weights."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    options = MODEL_OPTIONS if options is None else options
    return MODELS.build(load_config(str(ROOT / config), options).model).state_dict()


def dumped(folder: Path, options: dict | None = None) -> str:
    """A file of the micro config with its options, or others."""
    path = folder / 'micro.py'
    load_config(str(ROOT / CONFIG), MODEL_OPTIONS if options is None else options).dump(path)
    return str(path)


def losses(work_dir: Path) -> dict[int, float]:
    """Loss of each training iteration, over all runs in a work dir."""
    found = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record:
                found[record['iter']] = record['loss']
    return found


def figures(work_dir: Path) -> dict[str, float]:
    """COCO's figures of the last evaluation during training in a work dir."""
    log = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    last = json.loads(log.read_text().splitlines()[-1])
    found = {name: value for name, value in last.items() if name.startswith('coco/')}
    assert len(found) == 12
    return found


def detections(path: Path) -> list[tuple[int, list, list]]:
    """Image id, boxes and scores of each image in the file of ``tools/test.py --out``."""
    return [
        (found['img_id'], *(found['pred_instances'][k].tolist() for k in ('bboxes', 'scores')))
        for found in pickle.loads(path.read_bytes())
    ]
