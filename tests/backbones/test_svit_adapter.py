"""SViT: the authors' outputs and keys, its loss in a detector's, its start from a dense model."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_atc.backbones import SViTAdapter, ViTAdapter
from mmdet_atc.backbones.svit_adapter import _SelectiveBlocks
from mmdet_atc.checkpoints import check_fit, fit_state_dict
from tests.conftest import ROOT
from tests.integrations.recipe import fill, read

from .micro import MICRO, micro


def svit(**kwargs) -> SViTAdapter:
    torch.manual_seed(0)
    return SViTAdapter(**{**MICRO, **kwargs})


def test_blocks_match_the_authors_code(golden_classification):
    meta, golden = read(golden_classification / 'svit_blocks_micro.npz')
    model = svit(embed_dim=meta['dim'], num_heads=meta['num_heads']).eval()
    fill(model, meta['weights_seed'])
    for images in ([0], [1], [0, 1]):
        tokens, blocks = torch.from_numpy(golden['input'][images]), _SelectiveBlocks(model)
        with torch.no_grad():
            for stage, first in enumerate((0, 3, 6, 9), start=1):
                tokens = blocks(tokens, range(first, first + 3), (8, 12))
                expected = golden[f'stage{stage}'][images]
                assert np.abs(tokens.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
        np.testing.assert_array_equal(
            torch.stack(blocks.selected).numpy(), golden['selected'][:, images]
        )
        blocks.selected = [selected.float() for selected in blocks.selected]
        model.ratio_per_image = True
        losses = golden['ratio_loss'][images].mean()
        np.testing.assert_allclose(blocks.ratio_loss().item(), losses, rtol=1e-5)


def test_training_with_the_same_choice_gives_the_same_tokens(monkeypatch):
    model, tokens = svit(), torch.randn(2, 24, MICRO['embed_dim'])
    with torch.no_grad():
        inferred = _SelectiveBlocks(model.eval())(tokens, range(12), (4, 6))
        monkeypatch.setattr(
            nn.functional, 'gumbel_softmax', lambda x, tau, hard: (x == x.amax(-1, True)).float()
        )
        trained = _SelectiveBlocks(model.train())(tokens, range(12), (4, 6))
    torch.testing.assert_close(trained, inferred)


@pytest.mark.parametrize(('size', 'dim', 'heads'), [('tiny', 192, 3), ('small', 384, 6)])
def test_state_dict_is_svits(golden_classification, size, dim, heads):
    keys = json.loads((golden_classification / f'keys_svit_{size}.json').read_text())
    model = nn.Module()
    model.backbone = SViTAdapter(embed_dim=dim, num_heads=heads)
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == keys


def test_nothing_and_everything_selected():
    model, tokens = svit().eval(), torch.randn(2, 24, MICRO['embed_dim'])
    block = model.blocks[5]
    none, all_ = torch.zeros(2, 24, dtype=torch.bool), torch.ones(2, 24, dtype=torch.bool)
    half = torch.stack([none[0], all_[0]])
    with torch.no_grad():
        assert torch.equal(block.on_selected(tokens, none), tokens)
        torch.testing.assert_close(block.on_selected(tokens, all_), block(tokens))
        out = block.on_selected(tokens, half)
        assert torch.equal(out[0], tokens[0])
        torch.testing.assert_close(out[1], block(tokens)[1])
    model.train()
    assert block(tokens, half).isfinite().all()


@torch.no_grad()
def test_no_image_gives_no_maps():
    shapes = [tuple(x.shape) for x in svit().eval()(torch.rand(0, 3, 64, 96))]
    assert shapes == [(0, MICRO['embed_dim'], 64 // s, 96 // s) for s in (4, 8, 16, 32)]


def test_deterministic_in_inference_and_sampled_in_training():
    model, image = svit().eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        (once, selected), (again, _) = (model.forward_with_selection(image) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
        assert len(selected) == 9
        alone = model(image[1:])
        for both, one in zip(once, alone, strict=True):
            torch.testing.assert_close(both[1:], one)
        assert model.ratio_loss is None
        choices = [model.train().forward_with_selection(image)[1] for _ in range(2)]
    assert not all(torch.equal(a, b) for a, b in zip(*choices, strict=True))


def test_gradients_reach_every_selective_module():
    model = svit(with_cp=True, drop_path_rate=0.1).train()
    features = model(torch.randn(2, 3, 64, 96))
    (sum(feature.square().sum() for feature in features) + model.ratio_loss).backward()
    for module in model.selective_modules:
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_starts_from_a_dense_model():
    dense, model = micro().eval(), svit().eval()
    state = fit_state_dict(dict(dense.state_dict()), model.state_dict())
    wanted = {k: v for k, v in model.state_dict().items() if 'selective_modules' not in k}
    check_fit(state, wanted, 'dense')
    model.load_state_dict(state, strict=False)
    for module in model.selective_modules:
        nn.init.constant_(module.mlp.fc2.weight, 0)
        module.mlp.fc2.bias.data = torch.tensor([1.0, 0.0])
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        # The norms' epsilon differs: 1e-5 here, 1e-6 there.
        for ours, theirs in zip(model(image), dense(image), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('size', ['t', 's'])
def test_the_loss_is_among_the_detectors(size):
    init_default_scope('mmdet')
    cfg = Config.fromfile(ROOT / f'configs/svit_vit_adapter_{size}.py')
    detector = MODELS.build(cfg.model).train()
    assert type(detector.backbone) is SViTAdapter
    detector.backbone.ratio_loss = None
    detector.loss = lambda inputs, samples: (
        detector.backbone(inputs) and {'loss_cls': inputs.sum()}
    )
    losses = detector(torch.randn(1, 3, 64, 64), [], mode='loss')
    assert set(losses) == {'loss_cls', 'backbone.ratio_loss'}
    assert losses['backbone.ratio_loss'].requires_grad
    assert copy.deepcopy(detector.backbone).ratio_loss is None
    total, _ = detector.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss_cls'] + losses['backbone.ratio_loss'])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(keep_ratios=(0.5,) * 13), 'keep_ratios'),
        (dict(keep_ratios=(1.5,)), 'keep_ratios'),
        (dict(layer_scale=True), 'layer_scale'),
        (dict(qkv_bias=False), 'qkv_bias'),
        (dict(window_attn=True), 'window_attn'),
        (dict(ratio_loss_weight='four'), 'ratio_loss_weight'),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        svit(**change)


def test_dense_backbone_stays_dense():
    assert not isinstance(micro(), SViTAdapter)
    assert isinstance(svit(), ViTAdapter)
