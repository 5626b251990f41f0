"""What data a run reads, and how much of it."""

from __future__ import annotations

import sys

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmdet_atc.engine import load_config
from mmdet_atc.engine.limit import limit_images

from ..conftest import ROOT

CONFIG = str(ROOT / 'configs' / 'atc_vit_adapter_micro_shapes.py')


def test_the_first_images_of_all_data_sets():
    cfg = load_config(CONFIG)
    limit_images(cfg, 3)
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.indices == 3


def test_wrapped_and_joined_data_sets_are_limited_too():
    joined = dict(type='ConcatDataset', datasets=[dict(ann_file='a'), dict(ann_file='b')])
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=joined))))
    limit_images(cfg, 3)
    parts = cfg.train_dataloader.dataset.dataset.datasets
    assert [part.indices for part in parts] == [3, 3]


def test_an_evaluator_that_counts_what_is_left_out_is_refused():
    cfg = load_config(CONFIG)
    cfg.test_evaluator.type = 'CocoMetric'
    with pytest.raises(ValueError, match='test_evaluator is a CocoMetric, which counts'):
        limit_images(cfg, 3)


@pytest.mark.parametrize('workers', [0, 2])
def test_the_main_process_may_load_the_data(workers):
    options = {f'{split}_dataloader.num_workers': workers for split in ('train', 'val', 'test')}
    cfg = load_config(CONFIG, {**options, 'val_dataloader.prefetch_factor': 4})
    assert cfg.val_dataloader.persistent_workers == (workers > 0)
    assert cfg.val_dataloader.get('prefetch_factor') == (4 if workers else None)
    names = ('num_workers', 'persistent_workers', 'prefetch_factor')
    DataLoader([1], **{name: cfg.val_dataloader.get(name) for name in names})


@pytest.mark.parametrize('place', ['config', 'working directory'])
def test_modules_of_a_config_lie_beside_it_or_where_one_works(tmp_path, monkeypatch, place):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    name = f'mergers_of_the_{place.replace(" ", "_")}'
    folder = tmp_path if place == 'config' else tmp_path / 'here'
    (folder / f'{name}.py').write_text('FOUND = True')
    # What is installed is not hidden by a file beside a config.
    (tmp_path / 'torch.py').write_text('raise AssertionError')
    imports = f"dict(imports=['mmdet_atc', 'torch', '{name}'], allow_failed_imports=False)"
    (tmp_path / 'c.py').write_text(f"_base_ = '{CONFIG}'\ncustom_imports = {imports}\n")
    load_config('../c.py')
    assert sys.modules[name].FOUND
