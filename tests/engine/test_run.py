"""How tools read a config."""

from __future__ import annotations

import sys
from argparse import Namespace

import pytest
import torch
from mmengine.config import Config

from mmdet_atc.engine.run import choose_start, choose_weights, load_config, prepare_training

from ..conftest import ROOT

CONFIG = str(ROOT / 'configs' / 'atc_vit_adapter_t_average_r50.py')


def test_data_root_on_the_command_line_wins(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/from/environment')
    cfg = load_config(CONFIG, dict(data_root='/mine/'))
    assert cfg.data_root == '/mine/'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == '/mine'
    assert cfg.test_evaluator.ann_file == '/mine/annotations/instances_val2017.json'


def test_a_single_path_can_still_be_given():
    cfg = load_config(CONFIG, {'data_root': '/mine', 'val_evaluator.ann_file': '/other.json'})
    assert cfg.val_evaluator.ann_file == '/other.json'
    assert cfg.test_evaluator.ann_file == '/mine/annotations/instances_val2017.json'


@pytest.mark.parametrize('text', ['', "data_root = ''", 'data_root = None'])
def test_data_root_needs_one_in_the_config(tmp_path, text):
    (tmp_path / 'c.py').write_text(f"ann_file = '/a.json'\n{text}\n")
    with pytest.raises(ValueError, match='no top-level data_root'):
        load_config(str(tmp_path / 'c.py'), dict(data_root='/mine'))


@pytest.mark.parametrize(
    ('key', 'advice'),
    [
        ('modle.backbone.with_cp', "'modle' .*did you mean 'model'"),
        ('backend', 'give the whole name, such as model.backbone.merging.keep_rate'),
    ],
)
def test_a_key_that_nothing_reads_is_refused(key, advice):
    with pytest.raises(ValueError, match=advice):
        load_config(CONFIG, {key: 1})


@pytest.mark.parametrize('key', ['compile', 'resume', 'randomness.seed', 'model.new', 'sync_bn'])
def test_a_key_that_only_the_runner_or_a_class_knows_is_taken(key):
    cfg = load_config(CONFIG, {key: 1})
    assert cfg[key] == 1 if '.' not in key else cfg[key.split('.')[0]][key.split('.')[1]] == 1


def test_what_is_no_config_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'README\.md is no config: .*py/yml'):
        load_config(str(ROOT / 'README.md'))
    with pytest.raises(FileNotFoundError, match=r"no config at '.*no\.py'"):
        load_config(str(tmp_path / 'no.py'))
    with pytest.raises(ValueError, match=r'default_runtime\.py has no model'):
        load_config('configs/_base_/default_runtime.py')


def test_work_dir():
    assert load_config(CONFIG).work_dir == 'work_dirs/atc_vit_adapter_t_average_r50'
    assert load_config(CONFIG, dict(work_dir='/a')).work_dir == '/a'
    assert load_config(CONFIG, dict(work_dir='/a'), '/b').work_dir == '/b'


def test_a_missing_dense_checkpoint_says_what_to_do():
    with pytest.raises(FileNotFoundError, match=r'load_from: no checkpoint at .*load_from=None'):
        choose_start(Config(dict(load_from='no/such.pth', work_dir='w')), None)


def test_resume_auto_takes_the_last_checkpoint_and_not_load_from(tmp_path):
    dense, last = tmp_path / 'dense.pth', tmp_path / 'epoch_2.pth'
    torch.save({}, dense)
    cfg = Config(dict(load_from=str(dense), work_dir=str(tmp_path), resume=False))
    choose_start(cfg, 'auto')  # nothing to resume yet: a fresh start from the dense model
    assert (cfg.resume, cfg.load_from) == (False, str(dense))
    torch.save({}, last)
    (tmp_path / 'last_checkpoint').write_text(str(last))
    choose_start(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (True, str(last))


@pytest.mark.parametrize(
    ('given', 'seed'), [(None, 7), (dict(seed=None, deterministic=True), 7), (dict(seed=3), 3)]
)
def test_a_resumed_run_draws_images_by_the_seed_of_its_beginning(tmp_path, given, seed):
    torch.save(dict(meta=dict(seed=7)), tmp_path / 'epoch_1.pth')
    cfg = Config(dict(work_dir=str(tmp_path), randomness=given))
    choose_start(cfg, 'auto')
    assert cfg.randomness == {**(given or {}), 'seed': seed}


def test_resume_from_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='resume: no checkpoint at'):
        choose_start(Config(dict(work_dir=str(tmp_path))), str(tmp_path / 'no.pth'))


def test_a_test_with_the_config_of_a_resumed_run_resumes_nothing(tmp_path):
    torch.save({}, tmp_path / 'a.pth')
    cfg = Config(dict(resume=True, load_from='epoch_1.pth'))
    choose_weights(cfg, str(tmp_path / 'a.pth'))
    assert (cfg.resume, cfg.load_from) == (False, str(tmp_path / 'a.pth'))


def test_scaling_a_rate_needs_the_batch_size_that_it_is_for(tmp_path):
    (tmp_path / 'c.py').write_text(f"_base_ = '{CONFIG}'\nauto_scale_lr = None\n")
    args = Namespace(
        config=str(tmp_path / 'c.py'), work_dir=None, cfg_options=None, launcher='none',
        limit_images=None, amp=False, auto_scale_lr=True, resume=None,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r'c\.py has no auto_scale_lr=dict\(base_batch_size'):
        prepare_training(args)


def test_remote_checkpoints_are_left_to_mmengine():
    cfg = Config(dict(load_from='https://example.org/a.pth', work_dir='w'))
    choose_start(cfg, None)
    assert cfg.load_from == 'https://example.org/a.pth'


@pytest.mark.parametrize(
    ('key', 'meant'),
    [
        ('model.backbone.mergin.linkage', 'merging'),
        ('model.backbone.merging.keep_rates', 'keep_rate'),
        ('train_dataloader.batchsize', 'batch_size'),
    ],
)
def test_a_nested_key_that_is_nearly_another_is_refused(key, meant):
    with pytest.raises(ValueError, match=f'did you mean {meant!r}'):
        load_config(CONFIG, {key: 1})


def test_the_home_folder_is_followed_wherever_a_path_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'c.py').write_text(f"_base_ = '{CONFIG}'\nwork_dir = '~/runs'\n")
    cfg = load_config('~/c.py', {'data_root': '~/coco', 'load_from': '~/a.pth'})
    assert cfg.train_dataloader.dataset.data_root == f'{tmp_path}/coco'
    assert cfg.val_evaluator.ann_file == f'{tmp_path}/coco/annotations/instances_val2017.json'
    assert cfg.work_dir == f'{tmp_path}/runs'
    torch.save({}, tmp_path / 'a.pth')
    for resume in (None, '~/a.pth'):
        choose_start(cfg, resume)
        assert cfg.load_from == f'{tmp_path}/a.pth'


def test_resume_with_nothing_to_resume_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmdet_atc.engine.run.print_log', lambda text, **kwargs: said.append(text))
    choose_start(Config(dict(work_dir=str(tmp_path), resume=False)), 'auto')
    assert said == [f'--resume: no checkpoint in {tmp_path}; training starts anew']


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
