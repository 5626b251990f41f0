"""Learning rates by depth."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdet_atc.backbones import ViTAdapter

SMALL = dict(embed_dim=48, depth=4, num_heads=3, deform_num_heads=3, conv_inplane=8)


def model(**kwargs) -> nn.Module:
    groups = dict(interaction_indexes=[[0, 1], [2, 3]])
    parts = dict(backbone=ViTAdapter(**SMALL, **groups, **kwargs), head=nn.Linear(3, 3))
    return nn.ModuleDict(parts)


def groups(detector: nn.Module, **paramwise) -> dict[str, dict]:
    """Optimizer's group by the name of its parameter."""
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=paramwise,
    )
    names = {id(p): name for name, p in detector.named_parameters()}
    wrapper = build_optim_wrapper(detector, cfg)
    return {names[id(p)]: g for g in wrapper.optimizer.param_groups for p in g['params']}


def test_each_block_learns_more_slowly_than_the_next():
    detector = model(num_registers=2, pre_norm=True, layer_scale=True)
    found = groups(detector, layer_decay_rate=0.5, flat_decay_mult=0.0)
    assert set(found) == {name for name, _ in detector.named_parameters()}
    for name, group in found.items():
        part = name.split('.')[1]
        if part == 'blocks':
            steps = 4 - int(name.split('.')[2])
        else:
            steps = 5 if part in ('pos_embed', 'reg_token', 'patch_embed', 'norm_pre') else 0
        assert group['lr'] == pytest.approx(1e-4 * 0.5**steps), name
        assert group['weight_decay'] == (0 if found[name]['params'][0].ndim == 1 else 0.05)


def test_multipliers_of_the_default_constructor_go_on_top():
    keys = {'norm': dict(decay_mult=0.0), 'blocks.1': dict(lr_mult=0.1)}
    found = groups(model(), layer_decay_rate=0.5, custom_keys=keys)
    assert found['backbone.blocks.1.mlp.fc1.weight']['lr'] == pytest.approx(1e-4 * 0.1 * 0.5**3)
    assert found['backbone.blocks.2.norm1.weight']['lr'] == pytest.approx(1e-4 * 0.5**2)
    assert found['backbone.blocks.2.norm1.weight']['weight_decay'] == 0


def test_frozen_blocks_are_no_groups_and_change_no_rate():
    found = groups(model(frozen_blocks=2), layer_decay_rate=0.5)
    assert not any(name.startswith(('backbone.blocks.1', 'backbone.pos')) for name in found)
    assert found['backbone.blocks.2.attn.qkv.weight']['lr'] == pytest.approx(1e-4 * 0.5**2)


@pytest.mark.parametrize('rate', [0, 1.01, -1, None, 'fast', True])
def test_bad_rates_are_refused(rate):
    with pytest.raises(ValueError, match=r'paramwise_cfg\.layer_decay_rate must be in'):
        groups(model(), layer_decay_rate=rate)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match=r'got ModuleDict without backbone\.blocks'):
        groups(nn.ModuleDict(dict(backbone=nn.Linear(2, 2))), layer_decay_rate=0.7)


def test_a_step_moves_late_blocks_further():
    detector = model()
    with torch.no_grad():
        before = [b.mlp.fc1.weight.clone() for b in detector['backbone'].blocks]
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0),
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    wrapper = build_optim_wrapper(detector, cfg)
    wrapper.update_params(sum(f.sum() for f in detector['backbone'](torch.randn(2, 3, 64, 64))))
    blocks = detector['backbone'].blocks
    moved = [(b.mlp.fc1.weight - w).abs().max() for b, w in zip(blocks, before, strict=True)]
    # Adam's first step is the learning rate where the gradient is not about zero.
    expected = 1e-3 * 0.5 ** torch.arange(4.0, 0, -1)
    torch.testing.assert_close(torch.stack(moved), expected, rtol=0.05, atol=0)
