"""Parity with the authors' classification code, where its outputs are at hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import constant_plan, keep_rate_plan, linear_plan

from ..backbones.micro import canonical
from .recipe import fill, images, read

CASES = [
    'deit_average_r50',
    'deit_complete_r25',
    'deit_single_r70',
    'deit_tome_r70',
    'mae_average_constant_t8',
    'mae_complete_linear_t8',
]


def build(meta: dict) -> VisionTransformer:
    model = VisionTransformer(
        img_size=meta['image_size'],
        patch_size=meta['patch_size'],
        embed_dim=meta['embed_dim'],
        depth=meta['depth'],
        num_heads=meta['num_heads'],
        num_classes=meta['num_classes'],
        global_pool='avg' if meta.get('pooling') == 'average' else 'token',
        norm_layer=lambda dim, **kwargs: nn.LayerNorm(dim, eps=1e-6, **kwargs),
    )
    fill(model, meta['weights_seed'])
    return model.eval()


def merger(meta: dict) -> dict:
    if meta['method'] == 'tome':
        return dict(type='BipartiteMerging', class_token=True)
    return dict(type='AgglomerativeMerging', linkage=meta['method'])


def plan(meta: dict):
    if meta['kind'] == 'stages':
        return keep_rate_plan(meta['keep_rate'], meta['merge_blocks'], of='initial')
    schedule = dict(constant=constant_plan, linear=linear_plan)[meta['schedule']]
    return schedule(meta['t'], count='released')


@pytest.mark.parametrize('case', CASES)
def test_logits_features_and_clusters_match(golden_classification, case):
    meta, golden = read(golden_classification / f'{case}.npz')
    model = build(meta)
    apply_merging(model, merger(meta), plan(meta), meta['proportional_attn'])
    counts = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, args, out: counts.append(out.shape[1]))
    with torch.no_grad():
        tokens = model.forward_features(
            images(meta['picture_seed'], meta['batch'], meta['image_size'])
        )
        features = model.forward_head(tokens, pre_logits=True)
        logits = model.head(features)

    assert counts == golden['token_counts'].tolist()
    stages = [stage.labels for stage in model.token_clusters]
    if meta['kind'] == 'stages':
        expected = [golden[f'patch_labels{i}'] for i in range(3)]
    else:
        expected = golden['patch_labels'][np.array(meta['per_block']) > 0]
    assert len(stages) == len(expected)
    for ours, theirs in zip(stages, expected, strict=True):
        assert torch.equal(canonical(ours), canonical(theirs))
    sizes = model.token_clusters[-1].sizes.sort().values.numpy()
    np.testing.assert_array_equal(sizes, np.sort(golden['sizes'][:, 1:]))
    for ours, theirs in ((logits, golden['logits']), (features, golden['features'])):
        assert np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_state_dict_is_deits(golden_classification):
    meta, _ = read(golden_classification / 'deit_average_r50.npz')
    model = build(meta)
    apply_merging(model, merger(meta), plan(meta))
    keys = json.loads((golden_classification / 'keys_deit_tiny.json').read_text())
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == keys
