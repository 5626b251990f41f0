"""GPU configs on machines without one."""

from __future__ import annotations

import pytest

from mmdet_atc.engine import adapt_to_device, load_config

from ..conftest import ROOT

CONFIG = str(ROOT / 'configs' / 'atc_vit_adapter_t_average_r50.py')


def test_without_an_accelerator(monkeypatch):
    monkeypatch.setattr('mmdet_atc.engine.device.get_device', lambda: 'cpu')
    cfg = load_config(CONFIG)
    adapt_to_device(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert not {'loss_scale', 'dtype'} & set(cfg.optim_wrapper)
    assert cfg.sync_bn is None
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'


@pytest.mark.parametrize('device', ['cuda', 'npu'])
def test_with_one_nothing_changes(monkeypatch, device):
    monkeypatch.setattr('mmdet_atc.engine.device.get_device', lambda: device)
    cfg = load_config(CONFIG)
    adapt_to_device(cfg)
    assert cfg.to_dict() == load_config(CONFIG).to_dict()
