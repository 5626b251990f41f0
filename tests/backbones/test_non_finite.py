"""NaN is reported with the module that makes it and the image that brings it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdet_atc.backbones import NonFiniteError, non_finite_error
from mmdet_atc.engine import FiniteCheckHook

from .micro import micro

AVERAGE = dict(linkage='average', keep_rate=0.5)
BATCH = dict(data_samples=[dict(img_id=i, img_path=f'{i}.png') for i in (7, 9)])


@pytest.fixture
def hook():
    """A hook that watches a broken model."""
    model = micro(AVERAGE).eval()
    with torch.no_grad():
        model.blocks[2].attn.qkv.weight[5, 5] = float('nan')
    hook, detector = FiniteCheckHook(), nn.Module()
    detector.backbone = model
    hook.before_test(runner := SimpleNamespace(model=detector))
    return hook, runner, model


def test_the_hook_names_a_broken_weight_and_the_images(hook):
    hook, runner, model = hook
    expected = (
        r'first appears in blocks\.2\.attn\.qkv, for image 0 of the batch, 1 of the batch '
        r'\(weights that are not finite: blocks\.2\.attn\.qkv\.weight; the checkpoint is broken\)'
    )
    images = torch.rand(2, 3, 64, 96)
    with pytest.raises(NonFiniteError, match=expected):
        model(images)
    hook.before_test_iter(runner, 0, BATCH)
    with pytest.raises(NonFiniteError, match=r'for image 7 \(7\.png\), 9 \(9\.png\)'):
        model(image=images)
    hook.after_test(runner)
    with pytest.raises(NonFiniteError, match=r'keys|features'):  # clustering's own words
        model(images)


def test_the_hook_finds_nan_that_nothing_clusters(hook):
    hook, runner, model = hook
    model.set_merging(None)
    assert not model(torch.rand(2, 3, 64, 96))[0].isfinite().all()
    hook.before_test_iter(runner, 0, BATCH)
    with pytest.raises(NonFiniteError, match=r'first appears in blocks\.2\.attn\.qkv'):
        model(torch.rand(2, 3, 64, 96))


@pytest.mark.parametrize('training', [False, True])
def test_after_validation_only_training_is_watched(hook, training):
    hook, runner, model = hook
    hook.after_test(runner)
    if training:
        hook.before_train(runner)
    hook.before_val(runner)
    assert model._forward_hooks
    hook.after_val(runner)
    assert bool(model._forward_hooks) == training


def test_a_forward_pass_is_not_run_again_without_the_hook(monkeypatch):
    model = micro(AVERAGE).eval()
    runs = []
    run = model._run
    monkeypatch.setattr(model, '_run', lambda *args: runs.append(1) or run(*args))
    with pytest.raises(NonFiniteError):
        model(torch.full((1, 3, 64, 96), float('nan')))
    assert len(runs) == 1


def test_a_copy_of_a_watched_model_runs_on_its_own(hook):
    twin = copy.deepcopy(hook[2])
    with torch.no_grad():
        twin.blocks[2].attn.qkv.weight[5, 5] = 0
    assert twin(torch.rand(2, 3, 64, 96))[0].isfinite().all()


def test_a_broken_image_is_named_and_its_neighbours_are_not():
    model = micro(AVERAGE).eval()
    images = torch.rand(3, 3, 64, 96)
    images[1, 0, 5, 5] = float('inf')
    error = non_finite_error(model, images)
    assert 'appears in the input, for image 1 of the batch (' in str(error)


@pytest.mark.parametrize('kwargs', [{}, dict(window_attn=True, window_size=3)])
def test_an_overflow_of_one_image_is_found_in_the_dense_model_too(kwargs):
    model = micro(**kwargs).eval()
    with torch.no_grad():
        model.blocks[4].mlp.fc2.weight.fill_(1e38)
        images = torch.rand(2, 3, 64, 96)
        model.blocks[4].norm2.weight.fill_(10)
        error = non_finite_error(model, images)
    assert 'first appears in blocks.4.mlp.fc2' in str(error)
    assert 'all weights are finite' in str(error)


def test_other_errors_stay_what_they_are():
    model = micro(AVERAGE).eval()
    with pytest.raises(ValueError, match='multiples of 32') as error:
        model(torch.rand(1, 3, 60, 96))
    assert not isinstance(error.value, NonFiniteError)
    assert non_finite_error(model, torch.rand(1, 3, 64, 96)) is None


def test_looking_for_the_module_leaves_training_as_it_is():
    """A batch norm in training would also wait for processes that do not look."""
    model = micro(AVERAGE).train()
    model.norm1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        model.blocks[2].attn.qkv.weight[5, 5] = float('nan')
    error = non_finite_error(model, torch.rand(2, 3, 64, 96))
    assert 'first appears in blocks.2.attn.qkv' in str(error)
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
