"""A measured training step is one that trains, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import functools

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper
from torch import nn

from mmdet_atc.studies.speed.training import training_step

#: As configs have it; the gradients of :class:`Tiny` are longer than the limit.
OPTIM_WRAPPER = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale=dict(init_scale=512.0),
    accumulative_counts=4,
    optimizer=dict(type='SGD', lr=1.0),
    clip_grad=dict(max_norm=0.5),
)


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.seen = []
        self.layer.weight.register_hook(lambda grad: self.seen.append(grad.norm().item()))

    def forward(self, inputs, data_samples=None, mode='loss'):
        assert self.training
        return dict(loss=(self.layer(inputs) + self.norm(self.layer(inputs))).square().sum())


def moved(scales_loss: bool) -> tuple[Tiny, float]:
    """The model after one step, and how far the step took its parameters."""
    torch.manual_seed(0)
    model = Tiny().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with training_step(model, OPTIM_WRAPPER, contextlib.nullcontext, scales_loss) as step:
        step(dict(inputs=torch.randn(8, 4)))
        steps = [p.detach() - state[name] for name, p in model.named_parameters()]
        assert model.norm.num_batches_tracked == 1
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    return model, torch.cat([step.flatten() for step in steps]).norm().item()


def test_a_step_clips_moves_the_weights_and_takes_it_back():
    model, distance = moved(scales_loss=False)
    assert model.seen[0] > 1
    assert distance == pytest.approx(0.5, rel=1e-3)


def test_a_scaled_loss_gives_the_same_step(monkeypatch):
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    scaler = functools.partial(torch.amp.GradScaler, 'cpu')
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)
    plain, _ = moved(scales_loss=False)
    scaled, distance = moved(scales_loss=True)
    assert scaled.seen[0] == pytest.approx(512 * plain.seen[0], rel=1e-4)
    assert distance == pytest.approx(0.5, rel=1e-3)
