"""Detectors of configs without memory for their weights."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_atc.engine import load_config

from ..conftest import ROOT


def on_meta(name: str, **backbone) -> nn.Module:
    """The detector of a config, with other arguments of the backbone if given."""
    init_default_scope('mmdet')
    cfg = load_config(str(ROOT / f'configs/{name}.py'))
    cfg.model.backbone.update(backbone, init_cfg=None)
    with torch.device('meta'):
        return MODELS.build(cfg.model)
