"""Initialisation from ViT classifiers."""

from __future__ import annotations

import pytest
import timm
import torch

from mmdet_atc.backbones import ViTAdapter
from mmdet_atc.backbones.pretrained import vit_state_dict
from mmdet_atc.checkpoints import CheckpointError
from mmdet_atc.checkpoints.layouts import resized_pos_embed

TINY = dict(embed_dim=192, num_heads=3)


@pytest.fixture(scope='module')
def classifier():
    torch.manual_seed(0)
    return timm.create_model('deit_tiny_patch16_224', pretrained=False).eval()


def test_a_file_without_a_vit_is_refused(tmp_path):
    torch.save({'fc.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    with pytest.raises(CheckpointError, match=r'missing: blocks, 144 tensors .*\n.*patch_embed'):
        ViTAdapter(**TINY, init_cfg=init_cfg).init_weights()


@pytest.mark.parametrize(
    'init_cfg', [dict(type='Xavier', layer='Linear'), dict(checkpoint='a.pth')], ids=['type', 'no']
)
def test_other_init_types_are_refused_at_construction(init_cfg):
    with pytest.raises(
        ValueError, match="init_cfg of a ViT-Adapter must be dict\\(type='Pretrained'"
    ):
        ViTAdapter(**TINY, init_cfg=init_cfg)


def test_unknown_timm_model_is_refused():
    init_cfg = dict(type='Pretrained', checkpoint='timm://no_such_model')
    with pytest.raises(ValueError, match="timm has no model 'no_such_model'"):
        ViTAdapter(**TINY, init_cfg=init_cfg).init_weights()


@pytest.mark.parametrize('extra', [0, 1, 2])
def test_position_embeddings_of_other_grids_are_resized(extra):
    ramp = torch.linspace(0, 1, 24).repeat(24, 1).flatten()
    embed = torch.cat([torch.full((extra,), 7.0), ramp])[None, :, None]
    resized = resized_pos_embed(embed, 14 * 14)
    assert resized.shape == (1, 197, 1)
    rows = resized[0, 1:, 0].reshape(14, 14)
    torch.testing.assert_close(rows[0], rows[13])
    assert (rows[0].diff() > 0).all()
    if extra:
        assert resized[0, 0, 0] == 7
    unchanged = resized_pos_embed(embed, 24 * 24)
    assert torch.equal(unchanged[0, 1:, 0], ramp)


def test_tokens_that_are_no_square_grid_are_refused():
    with pytest.raises(CheckpointError, match=r'square number of patches .* got 224 tokens'):
        resized_pos_embed(torch.zeros(1, 14 * 16, 8), 14 * 14)


def test_a_distilled_classifier_of_another_grid_initialises(tmp_path, classifier):
    state = dict(classifier.state_dict())
    state['dist_token'] = torch.zeros(1, 1, 192)
    state['head_dist.weight'], state['head_dist.bias'] = torch.zeros(9, 192), torch.zeros(9)
    state['pos_embed'] = torch.rand(1, 24 * 24 + 2, 192)
    torch.save(dict(model=state), tmp_path / 'deit.pth')
    model = ViTAdapter(
        **TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'deit.pth'))
    )
    model.init_weights()
    assert torch.equal(model.pos_embed, resized_pos_embed(state['pos_embed'], 14 * 14))


def test_only_common_prefixes_are_stripped():
    state = {'backbone.a': torch.zeros(1), 'neck.b': torch.zeros(1)}
    assert set(vit_state_dict({'state_dict': state, 'meta': {}})) == set(state)
    assert set(vit_state_dict({'module.backbone.a': torch.zeros(1)})) == {'a'}
