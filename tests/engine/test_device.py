"""GPU configs on machines without one."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm

from mmdet_atc.engine import adapt_to_device, load_config

from ..backbones.micro import micro
from ..conftest import ROOT

CONFIG = str(ROOT / 'configs' / 'atc_vit_adapter_t_average_r50.py')


def test_without_an_accelerator(monkeypatch):
    monkeypatch.setattr('mmdet_atc.engine.device.get_device', lambda: 'cpu')
    cfg = load_config(CONFIG)
    adapt_to_device(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert not {'loss_scale', 'dtype'} & set(cfg.optim_wrapper)
    assert cfg.sync_bn is None
    assert cfg.default_hooks.sync_buffers == dict(type='SyncBuffersHook')
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'


def test_a_config_for_testing_alone_may_have_no_optimizer(monkeypatch):
    monkeypatch.setattr('mmdet_atc.engine.device.get_device', lambda: 'cpu')
    cfg = Config(dict(optim_wrapper=None, sync_bn='torch'))
    adapt_to_device(cfg)
    assert (cfg.optim_wrapper, cfg.sync_bn) == (None, None)


@pytest.mark.parametrize('device', ['cuda', 'npu'])
def test_with_one_nothing_changes(monkeypatch, device):
    monkeypatch.setattr('mmdet_atc.engine.device.get_device', lambda: device)
    cfg = load_config(CONFIG)
    adapt_to_device(cfg)
    assert cfg.to_dict() == load_config(CONFIG).to_dict()


def test_sync_bn_of_the_backbone_is_batch_norm_where_nothing_is_synchronised():
    """MMEngine turns one into the other, for GPUs and back."""
    image = torch.rand(2, 3, 64, 64)
    model = micro()
    keys, expected = list(model.state_dict()), model.eval()(image)
    synced = convert_sync_batchnorm(model, 'torch')
    kinds = {type(module) for module in synced.modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds
    assert list(synced.state_dict()) == keys
    for output, wanted in zip(synced.eval()(image), expected):
        torch.testing.assert_close(output, wanted)
    reverted = revert_sync_batchnorm(synced).train()
    sum(output.sum() for output in reverted(image)).backward()
    assert reverted.spm.stem[0].weight.grad.isfinite().all()
