"""Data set and evaluator of a run read the same annotation file."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmdet_atc.engine import load_config
from mmdet_atc.engine.evaluated_file import check_evaluated_files

from ..conftest import ROOT

CONFIG = str(ROOT / 'configs' / 'atc_vit_adapter_micro_shapes.py')


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
