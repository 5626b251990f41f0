"""NaN is reported with the module that makes it and the image that brings it."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.backbones import NonFiniteError

from .micro import micro

AVERAGE = dict(linkage='average', keep_rate=0.5)


def test_a_broken_weight_is_named():
    model = micro(AVERAGE).eval()
    with torch.no_grad():
        model.blocks[2].attn.qkv.weight[5, 5] = float('nan')
    expected = (
        r'first appears in blocks\.2\.attn\.qkv, for image 0 of the batch, 1 of the batch '
        r'\(weights that are not finite: blocks\.2\.attn\.qkv\.weight; the checkpoint is broken\)'
    )
    with pytest.raises(NonFiniteError, match=expected):
        model(torch.rand(2, 3, 64, 96))
    model.image_names = ['7 (a.png)', '9 (b.png)']
    with pytest.raises(NonFiniteError, match=r'for image 7 \(a\.png\), 9 \(b\.png\)'):
        model(torch.rand(2, 3, 64, 96))


def test_a_broken_image_is_named_and_its_neighbours_are_not():
    model = micro(AVERAGE).eval()
    images = torch.rand(3, 3, 64, 96)
    images[1, 0, 5, 5] = float('inf')
    with pytest.raises(NonFiniteError, match=r'appears in the input, for image 1 of the batch \('):
        model(images)


@pytest.mark.parametrize('kwargs', [{}, dict(window_attn=True, window_size=3)])
def test_an_overflow_of_one_image_is_found_in_the_dense_model_too(kwargs):
    model = micro(**kwargs).eval()
    with torch.no_grad():
        model.blocks[4].mlp.fc2.weight.fill_(1e38)
        images = torch.rand(2, 3, 64, 96)
        model.blocks[4].norm2.weight.fill_(10)
        error = model.non_finite_error(images)
    assert 'first appears in blocks.4.mlp.fc2' in str(error)
    assert 'all weights are finite' in str(error)


def test_other_errors_stay_what_they_are():
    model = micro(AVERAGE).eval()
    with pytest.raises(ValueError, match='multiples of 32') as error:
        model(torch.rand(1, 3, 60, 96))
    assert not isinstance(error.value, NonFiniteError)
    assert model.non_finite_error(torch.rand(1, 3, 64, 96)) is None


def test_looking_for_the_module_leaves_training_as_it_is():
    """A batch norm in training would also wait for processes that do not look."""
    model = micro(AVERAGE).train()
    model.norm1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        model.blocks[2].attn.qkv.weight[5, 5] = float('nan')
    error = model.non_finite_error(torch.rand(2, 3, 64, 96))
    assert 'first appears in blocks.2.attn.qkv' in str(error)
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
