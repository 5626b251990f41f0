"""Frozen blocks are neither trained nor dropped; what comes after them is."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.backbones import SViTAdapter, ViTAdapter

from .micro import MICRO, micro


def trained_parts(model: ViTAdapter) -> set[str]:
    return {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}


def test_the_embedding_and_the_first_blocks_are_frozen():
    model = micro(frozen_blocks=5, num_registers=2, drop_path_rate=0.5)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {name.split('.')[0] for name in frozen} == {
        'pos_embed', 'reg_token', 'patch_embed', 'blocks',
    }  # fmt: skip
    assert {name.split('.')[1] for name in frozen if name.startswith('blocks')} == set('01234')
    model.train()
    assert [block.training for block in model.blocks] == [False] * 5 + [True] * 7
    assert model.spm.training


def test_gradients_go_through_frozen_blocks_to_the_adapter():
    model = micro(frozen_blocks=12).train()
    sum(output.sum() for output in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is None for p in model.blocks.parameters())
    assert model.interactions[0].injector.attn.value_proj.weight.grad.abs().sum() > 0
    assert trained_parts(model).isdisjoint({'blocks', 'pos_embed', 'patch_embed'})


def test_svits_blocks_freeze_too():
    model = SViTAdapter(**MICRO, frozen_blocks=3)
    assert not any(p.requires_grad for p in model.blocks[:3].parameters())
    assert all(p.requires_grad for p in model.blocks[3:].parameters())


@pytest.mark.parametrize('value', [-1, 13, 1.0, True, None])
def test_more_blocks_than_there_are_are_refused(value):
    with pytest.raises(ValueError, match=r'frozen_blocks must be an integer in 0\.\.12, got'):
        ViTAdapter(**MICRO, frozen_blocks=value)
