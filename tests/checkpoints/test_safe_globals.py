"""Training state loads with weights_only=True; anything else is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

import mmdet_atc  # noqa: F401


def test_scalar_histories_load(tmp_path):
    history = HistoryBuffer(log_history=[1.0, 2.0], count_history=[1, 1])
    state = dict(loss=history, lr=np.float64(0.1), step=np.int64(3), values=np.arange(3.0))
    torch.save(state, tmp_path / 'state.pth')
    loaded = torch.load(tmp_path / 'state.pth', weights_only=True)
    assert loaded['loss'].mean() == 1.5
    assert loaded['lr'] == 0.1
    assert loaded['values'].tolist() == [0, 1, 2]


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'owned'),)

    torch.save({'state_dict': Malicious()}, tmp_path / 'bad.pth')
    with pytest.raises(Exception, match='Weights only load failed'):
        torch.load(tmp_path / 'bad.pth')
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('attribute', ['__init__', '__class__', 'update'])
def test_other_attributes_are_out_of_reach(tmp_path, attribute):
    class Reader:
        def __reduce__(self):
            return getattr, (HistoryBuffer, attribute)

    torch.save(Reader(), tmp_path / 'bad.pth')
    with pytest.raises(Exception, match=f"attribute '{attribute}' .* not allowed"):
        torch.load(tmp_path / 'bad.pth')
