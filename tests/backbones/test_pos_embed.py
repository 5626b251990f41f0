from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from mmdet_atc.backbones.pos_embed import PosEmbedResizer

from .micro import micro

GRID = (3, 5)


def expected(pos_embed, grid=GRID):
    side = int((pos_embed.shape[1] - 1) ** 0.5)
    embed = pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    return F.interpolate(embed, size=grid, mode='bicubic').flatten(2).transpose(1, 2)


@pytest.fixture
def calls(monkeypatch):
    """The grids that were resized to."""
    found = []
    resized = PosEmbedResizer._resized

    def counted(self, pos_embed, grid):
        found.append(grid)
        return resized(self, pos_embed, grid)

    monkeypatch.setattr(PosEmbedResizer, '_resized', counted)
    return found


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_once_per_grid_in_inference(mode, calls):
    resizer, pos_embed = PosEmbedResizer(4), torch.randn(1, 17, 6)
    with mode():
        for grid in (GRID, (4, 4), GRID):
            assert torch.equal(resizer(pos_embed, grid), expected(pos_embed, grid))
    assert calls == [GRID, (4, 4)]


def test_what_is_kept_in_inference_mode_is_of_use_outside_of_it():
    resizer, pos_embed = PosEmbedResizer(4), torch.randn(1, 17, 6)
    with torch.inference_mode():
        resizer(pos_embed, GRID)
    with torch.no_grad():
        assert not resizer(pos_embed, GRID).is_inference()


@pytest.mark.parametrize('write', ['data', 'copy', 'dtype'])
def test_a_changed_embedding_is_resized_anew(write):
    resizer, pos_embed = PosEmbedResizer(4), torch.nn.Parameter(torch.randn(1, 17, 6))
    with torch.no_grad():
        resizer(pos_embed, GRID)
        if write == 'data':
            pos_embed.data.mul_(2)  # as EMA; leaves no trace in the version
        elif write == 'copy':
            pos_embed = torch.randn(1, 17, 6)
        else:
            pos_embed = pos_embed.double()
        assert torch.equal(resizer(pos_embed, GRID), expected(pos_embed))


def test_gradients_pass():
    resizer, pos_embed = PosEmbedResizer(4), torch.nn.Parameter(torch.randn(1, 17, 6))
    with torch.no_grad():
        resizer(pos_embed, GRID)
    resizer(pos_embed, GRID).sum().backward()
    assert pos_embed.grad[:, 1:].abs().sum() > 0


def test_few_grids_are_kept(calls):
    resizer, pos_embed = PosEmbedResizer(4), torch.randn(1, 17, 6)
    grids = [(2, width) for width in range(1, 30)]
    with torch.no_grad():
        for grid in grids * 2:
            resizer(pos_embed, grid)
    assert calls == grids * 2
    assert len(resizer._kept) == 8


def test_a_model_that_has_run_can_be_copied():
    model = micro().eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected_maps = model(image)
    twin = copy.deepcopy(model)
    with torch.inference_mode():
        for ours, theirs in zip(twin(image), expected_maps, strict=True):
            assert torch.equal(ours, theirs)
