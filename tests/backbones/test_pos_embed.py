"""A position embedding resized by products is ``F.interpolate``'s."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from mmdet_atc.backbones.pos_embed import resized_pos_embed

from .micro import micro


def interpolated(pos_embed, grid):
    side = int((pos_embed.shape[1] - 1) ** 0.5)
    embed = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    return F.interpolate(embed, size=grid, mode='bicubic').flatten(2).transpose(1, 2)


@pytest.mark.parametrize('side', [1, 4, 14])
@pytest.mark.parametrize('grid', [(3, 5), (4, 4), (50, 84), (1, 1), (84, 2)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_it_is_bicubic_interpolation_with_its_gradients(side, grid, dtype):
    pos_embed = torch.randn(1, 1 + side**2, 6, dtype=dtype, requires_grad=True)
    found, expected = (form(pos_embed, grid) for form in (resized_pos_embed, interpolated))
    torch.testing.assert_close(found, expected)
    if dtype == torch.float64:  # sums of many in float32 are rounded either way
        grad = torch.randn_like(expected)
        torch.testing.assert_close(
            *(torch.autograd.grad(out, pos_embed, grad) for out in (found, expected))
        )


def test_the_pretraining_grid_stays_as_it_is():
    pos_embed = torch.randn(1, 17, 6)
    assert torch.equal(resized_pos_embed(pos_embed, (4, 4)), pos_embed[:, 1:])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    pos_embed = torch.randn(1, 17, 6).to(dtype)
    with torch.autocast('cpu', dtype=dtype):
        found = resized_pos_embed(pos_embed, (3, 5))
    assert torch.equal(found, interpolated(pos_embed.float(), (3, 5)).to(dtype))


def test_no_parameter_is_kept_across_calls():
    """As EMA and optimizers write: in place, without a trace in the version."""
    pos_embed = torch.nn.Parameter(torch.randn(1, 17, 6))
    with torch.inference_mode():
        before = resized_pos_embed(pos_embed, (3, 5))
        pos_embed.data.mul_(2)
        assert torch.equal(resized_pos_embed(pos_embed, (3, 5)), 2 * before)


def test_a_model_that_has_run_can_be_copied():
    model = micro().eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected_maps = model(image)
    twin = copy.deepcopy(model)
    with torch.inference_mode():
        for ours, theirs in zip(twin(image), expected_maps, strict=True):
            assert torch.equal(ours, theirs)
