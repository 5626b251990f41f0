"""The optimizer sees the recipe's batch on any number of processes."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmdet_atc.engine import load_config, set_total_batch_size

from ..conftest import ROOT


@pytest.mark.parametrize(('gpus', 'factor'), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_total_of_16_on_1_2_4_8_gpus(gpus, factor):
    cfg = load_config(str(ROOT / 'configs' / 'atc_vit_adapter_s_average_r50.py'))
    set_total_batch_size(cfg, gpus)
    assert cfg.optim_wrapper.accumulative_counts == factor
    assert factor * gpus * cfg.train_dataloader.batch_size == 16
    warmup, steps = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 500 * factor)
    assert (steps.begin, steps.end, steps.milestones) == (0, 4, [3])


def config(**kwargs) -> Config:
    base = dict(train_dataloader=dict(batch_size=3), optim_wrapper=dict(), total_batch_size=16)
    return Config({**base, **kwargs})


def test_a_config_without_auto_scale_lr_accumulates():
    cfg = config(auto_scale_lr=None, train_dataloader=dict(batch_size=4))
    set_total_batch_size(cfg, 2)
    assert cfg.optim_wrapper.accumulative_counts == 2


def test_a_total_that_cannot_be_reached_is_an_error():
    with pytest.raises(ValueError, match=r'total_batch_size=16 must be a multiple of .* 3 x 2'):
        set_total_batch_size(config(), 2)
    with pytest.raises(ValueError, match='total_batch_size=16'):
        set_total_batch_size(config(train_dataloader=dict(batch_size=32)), 1)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(total_batch_size=None),
        dict(auto_scale_lr=dict(enable=True)),
        dict(optim_wrapper=dict(accumulative_counts=3)),
    ],
)
def test_it_stays_out_of_the_way(kwargs):
    cfg = config(**kwargs)
    before = cfg.optim_wrapper.get('accumulative_counts')
    set_total_batch_size(cfg, 2)
    assert cfg.optim_wrapper.get('accumulative_counts') == before


def test_a_config_that_a_run_saved_warns_on_another_number_of_processes(caplog):
    cfg = config(train_dataloader=dict(batch_size=2))
    set_total_batch_size(cfg, 1)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    set_total_batch_size(cfg, 1)
    assert not caplog.records
    set_total_batch_size(cfg, 8)
    logger.removeHandler(caplog.handler)
    assert cfg.optim_wrapper.accumulative_counts == 8
    assert 'sees 128 images, not total_batch_size=16' in caplog.text


def by_iterations(**loop) -> Config:
    return Config(
        dict(
            total_batch_size=16,
            train_dataloader=dict(batch_size=2),
            optim_wrapper=dict(),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=900, **loop),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, begin=0, end=50),
                dict(type='MultiStepLR', by_epoch=False, begin=50, end=900, milestones=[600, 800]),
            ],
            default_hooks=dict(checkpoint=dict(by_epoch=False, interval=100, save_begin=200)),
        )
    )


@pytest.mark.parametrize(('gpus', 'factor'), [(1, 8), (4, 2), (8, 1)])
def test_training_by_iterations_is_as_many_optimizer_steps(gpus, factor):
    cfg = by_iterations(val_interval=300, val_begin=600, dynamic_intervals=[(700, 50)])
    set_total_batch_size(cfg, gpus)
    assert cfg.train_cfg.max_iters == 900 * factor == cfg.param_scheduler[1].end
    assert cfg.param_scheduler[1].milestones == [600 * factor, 800 * factor]
    assert (cfg.train_cfg.val_begin, cfg.train_cfg.val_interval) == (600 * factor, 300 * factor)
    assert cfg.train_cfg.dynamic_intervals == [(700 * factor, 50 * factor)]
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.save_begin) == (100 * factor, 200 * factor)


def test_the_interval_that_is_not_given_is_mmengines():
    cfg = by_iterations()
    set_total_batch_size(cfg, 1)
    assert cfg.train_cfg.val_interval == 1000 * 8


def test_what_counts_epochs_is_not_stretched():
    cfg = by_iterations()
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
    cfg.default_hooks.checkpoint = dict(interval=1)
    set_total_batch_size(cfg, 1)
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (12, 1)
    assert cfg.default_hooks.checkpoint.interval == 1


@pytest.mark.parametrize(
    ('scheduler', 'stretched'),
    [
        (dict(type='OneCycleLR', total_steps=900, eta_max=1), dict(total_steps=7200)),
        (dict(type='StepLR', step_size=300, begin=10), dict(step_size=2400, begin=80)),
        (dict(type='CosineRestartLR', periods=[300, 600]), dict(periods=[2400, 4800])),
        (dict(type='ExponentialLR', gamma=0.5), dict(gamma=0.5 ** (1 / 8))),
        (dict(type='CosineAnnealingLR', T_max=900, eta_min=1e-6), dict(T_max=7200, eta_min=1e-6)),
    ],
)
def test_every_schedule_by_iterations_is_stretched(scheduler, stretched):
    given = dict(scheduler, by_epoch=False)
    for schedulers in (given, [given], dict(first=[given], second=given)):
        cfg = by_iterations()
        cfg.param_scheduler = schedulers
        set_total_batch_size(cfg, 1)
        found = cfg.param_scheduler
        for one in (
            (found['first'][0], found['second'])
            if 'first' in found
            else [found if 'type' in found else found[0]]
        ):
            assert {key: one[key] for key in stretched} == stretched
    by_epochs = by_iterations()
    by_epochs.param_scheduler = dict(scheduler, by_epoch=True)
    set_total_batch_size(by_epochs, 1)
    assert by_epochs.param_scheduler == dict(scheduler, by_epoch=True)
