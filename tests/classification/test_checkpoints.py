"""Classifiers' files in the layouts of their authors."""

from __future__ import annotations

import argparse
import pickle

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from mmdet_atc.checkpoints import CheckpointError, install
from mmdet_atc.checkpoints.hub import PUBLISHED_SHA256
from mmdet_atc.classification.checkpoints import load_classifier
from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import keep_rate_plan

MICRO = dict(img_size=32, patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=3)


@pytest.fixture(autouse=True)
def _installed():
    install()


def vit(**changes) -> VisionTransformer:
    return VisionTransformer(**{**MICRO, **changes})


def equal(model, state) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize('ema_best', [True, False])
def test_the_authors_layout(tmp_path, ema_best):
    plain, ema = vit().state_dict(), vit().state_dict()
    args = argparse.Namespace(model='atc_tiny', reduction_ratio=[0.25], linkage='single')
    path = tmp_path / 'atc_tiny-coco-025-single.pth'
    torch.save(dict(model=plain, model_ema=ema, ema_best=ema_best, args=args), path)
    model = apply_merging(vit(), dict(linkage='single'), keep_rate_plan(0.25, (1,), of='initial'))
    said = load_classifier(model, str(path))
    assert said == dict(model='atc_tiny', reduction_ratio=[0.25], linkage='single')
    assert equal(model, ema if ema_best else plain)


def test_deits_layout_and_another_grid(tmp_path):
    given, path = vit(img_size=64), tmp_path / 'deit.pth'
    torch.save(dict(model=given.state_dict()), path)
    model = vit()
    assert load_classifier(model, str(path)) == {}
    assert torch.equal(model.head.weight, given.head.weight)
    assert model.pos_embed.shape == (1, 5, 16)


def test_maes_layout_needs_average_pooling(tmp_path):
    given, path = vit(global_pool='avg').state_dict(), tmp_path / 'mae_finetuned_vit_base.pth'
    assert 'fc_norm.weight' in given
    torch.save(dict(model=given), path)
    model = vit(global_pool='avg')
    load_classifier(model, str(path))
    assert equal(model, given)
    with pytest.raises(CheckpointError, match='does not fit'):
        load_classifier(vit(), str(path))


def test_nothing_but_arguments_is_unpickled(tmp_path):
    class Hostile(argparse.Namespace):
        def __reduce__(self):
            return (print, ('ran',))

    path = tmp_path / 'hostile.pth'
    torch.save(dict(model=vit().state_dict(), args=Hostile()), path, pickle_module=pickle)
    with pytest.raises(CheckpointError, match='not loaded'):
        load_classifier(vit(), str(path))


def test_digests_of_classifiers_are_pinned():
    names = [name for name in PUBLISHED_SHA256 if '-coco-' in name]
    assert len(names) == 5
    assert all(len(PUBLISHED_SHA256[name]) == 64 for name in names)
