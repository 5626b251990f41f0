"""Training from foundation weights: the whole recipe, as a user runs it."""

from __future__ import annotations

import pytest
import timm
import torch

from ..conftest import ROOT
from .micro_runs import CONFIG, SMALL, losses
from .processes import run

#: What the micro detector needs beside `SMALL` to start from the file that `foundation` writes.
RECIPE = """
_base_ = '{base}'

custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.5)]
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.5, flat_decay_mult=0.0),
)
model = dict(
    backbone=dict(
        img_size=80, pretrain_size=80, layer_scale=True, num_registers=4, frozen_blocks=3,
        init_cfg=dict(type='Pretrained', checkpoint='{checkpoint}'),
    )
)
"""


@pytest.fixture(scope='module')
def foundation(tmp_path_factory):
    """A file of DINOv2 with registers, patches of 14 pixels, and a config that starts from it."""
    folder = tmp_path_factory.mktemp('foundation')
    torch.manual_seed(0)
    size = dict(embed_dim=48, depth=12, num_heads=3, mlp_ratio=2, img_size=70)
    model = timm.create_model('vit_small_patch14_reg4_dinov2', **size)
    torch.save(model.state_dict(), folder / 'dinov2.pth')
    config = folder / 'recipe.py'
    config.write_text(RECIPE.format(base=ROOT / CONFIG, checkpoint=folder / 'dinov2.pth'))
    return config


@pytest.mark.slow
def test_decay_frozen_blocks_and_ema_train_together(data, foundation, tmp_path):
    options = ['--work-dir', str(tmp_path), '--cfg-options', *SMALL]
    result = run(data, 'tools/train.py', str(foundation), *options)
    assert 'tensors of a pretrained ViT from' in result.stdout + result.stderr
    assert sorted(losses(tmp_path)) == list(range(1, 7))
    start = torch.load(foundation.with_name('dinov2.pth'))
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    trained, averaged = (
        {k: v for k, v in checkpoint[name].items()} for name in ('ema_state_dict', 'state_dict')
    )
    trained = {k.removeprefix('module.'): v for k, v in trained.items()}
    moved = []
    for index in range(12):
        name = f'blocks.{index}.attn.qkv.weight'
        before = start[name]
        moved.append((trained[f'backbone.{name}'] - before).abs().max().item())
        assert (moved[-1] == 0) == torch.equal(averaged[f'backbone.{name}'], before)
    assert moved[:3] == [0, 0, 0]
    assert all(moved[3:])
    assert moved[11] > 100 * moved[4]
    assert torch.equal(trained['backbone.reg_token'], start['reg_token'])


@pytest.mark.slow
def test_a_file_that_does_not_fit_is_one_line(data, foundation, tmp_path):
    torch.save({'layer1.0.conv1.weight': torch.zeros(64, 64, 1, 1)}, tmp_path / 'resnet.pth')
    options = [*SMALL, f'model.backbone.init_cfg.checkpoint={tmp_path / "resnet.pth"}']
    arguments = ['--work-dir', str(tmp_path), '--cfg-options', *options]
    result = run(data, 'tools/train.py', str(foundation), *arguments, check=False)
    assert result.returncode != 0
    assert 'Traceback' not in result.stderr
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .endswith(
            'resnet.pth does not fit the ViT of this backbone: it is a convolutional network '
            '(with layer1.0.conv1.weight), not a plain ViT'
        )
    )
