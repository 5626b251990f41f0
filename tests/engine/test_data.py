"""What data a run reads, how much of it, and by which file it is evaluated."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmdet_atc.engine import load_config
from mmdet_atc.engine.data import check_evaluated_files, limit_images

from ..conftest import ROOT

CONFIG = str(ROOT / 'configs' / 'atc_vit_adapter_micro_shapes.py')


def test_the_first_images_of_all_data_sets():
    cfg = load_config(CONFIG)
    limit_images(cfg, 3)
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.indices == 3


def test_the_first_of_the_images_that_a_config_chooses():
    cfg = Config(dict(val_dataloader=dict(dataset=dict(indices=[18, 19, 20]))))
    limit_images(cfg, 2)
    assert cfg.val_dataloader.dataset.indices == [18, 19]


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


def config(ann_file: str, evaluated: object, split: str = 'test', **dataset) -> Config:
    data = dict(data_root='data', ann_file=ann_file, **dataset)
    return Config({f'{split}_dataloader': dict(dataset=data), f'{split}_evaluator': evaluated})


@pytest.mark.parametrize('split', ['val', 'test'])
def test_another_split_without_its_evaluator_is_refused(split):
    key = f'{split}_dataloader.dataset.ann_file'
    with pytest.raises(ValueError, match=rf'{split}_evaluator reads .*val2017\.json.*/b\.json'):
        load_config(CONFIG, {key: 'b.json'})
    with pytest.raises(ValueError, match='would be by other images'):
        load_config(CONFIG, {key: 'b.json', f'{split}_evaluator.classwise': True})
    both = {key: 'b.json', f'{split}_evaluator.ann_file': 'data/shapes/b.json'}
    assert load_config(CONFIG, both)[f'{split}_evaluator'].ann_file == 'data/shapes/b.json'


def test_one_of_several_evaluators_is_refused():
    good, other = dict(ann_file='data/a.json'), dict(ann_file='data/b.json')
    check_evaluated_files(config('a.json', [good, dict(type='DumpDetResults')]))
    with pytest.raises(ValueError, match=r'reads data/b\.json'):
        check_evaluated_files(config('a.json', [good, other]))


@pytest.mark.parametrize('evaluated', ['data/a.json', './data//a.json', 'data/x/../a.json', None])
def test_spellings_of_one_path_are_one_file(evaluated):
    check_evaluated_files(config('a.json', dict(ann_file=evaluated)))


def test_wrapped_data_sets_are_looked_into():
    wrapped = dict(dataset=dict(type='RepeatDataset', dataset=dict(ann_file='/a.json')))
    cfg = Config(dict(val_dataloader=wrapped, val_evaluator=dict(ann_file='/b.json')))
    with pytest.raises(ValueError, match=r'val_evaluator reads /b\.json'):
        check_evaluated_files(cfg)


def test_runs_without_evaluation_have_nothing_to_compare():
    check_evaluated_files(Config(dict(val_dataloader=None, test_dataloader=dict())))
