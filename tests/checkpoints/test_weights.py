"""Weights of a detector, all of them or an error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmdet_atc.checkpoints import CheckpointError, load_weights


def test_weights_must_fit(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict={'0.weight': torch.ones(2, 2), '0.bias': torch.ones(2)}), path)
    load_weights(model, str(path))
    assert (model[0].weight == 1).all()
    torch.save(dict(state_dict={'0.weight': torch.ones(2, 2)}), path)
    with pytest.raises(CheckpointError, match='missing: 0'):
        load_weights(model, str(path))
