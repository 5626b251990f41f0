"""Parity with the authors' model: same checkpoint, same image, same clusters and features."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn

from mmdet_atc.backbones import ATCViTAdapter, ViTAdapter

from .micro import MICRO, canonical

CASES = [
    'average_r25_C',
    'average_r50_A',
    'average_r70_B',
    'complete_r25_B',
    'complete_r90_A',
    'dense_r100_A',
    'single_r50_B',
    'single_r90_A',
    'tome_r50_A',
    'tome_r70_B',
]


def build(case: str) -> ViTAdapter:
    method, rate, _ = case.split('_')
    keep_rate = int(rate[1:]) / 100
    if method == 'dense':
        return ViTAdapter(**MICRO)
    if method == 'tome':
        return ATCViTAdapter(merging=dict(type='BipartiteMerging', keep_rate=keep_rate), **MICRO)
    merging = dict(type='AgglomerativeMerging', linkage=method, keep_rate=keep_rate)
    return ATCViTAdapter(merging=merging, **MICRO)


def load(golden_dir, case: str) -> ViTAdapter:
    detector = nn.Module()
    detector.backbone = build(case)
    load_checkpoint(
        detector, str(golden_dir / 'micro_released_layout.pth'), map_location='cpu', strict=True
    )
    return detector.backbone.eval()


@pytest.mark.parametrize('case', CASES)
def test_features_and_clusters_match(golden_dir, case):
    golden = np.load(golden_dir / f'{case}.npz')
    model = load(golden_dir, case)
    with torch.no_grad():
        image = torch.from_numpy(golden['input'])
        features, stages = (
            model.forward_with_clusters(image)
            if isinstance(model, ATCViTAdapter)
            else (model(image), ())
        )

    expected = [golden[name] for name in sorted(golden.files) if name.startswith('labels')]
    assert len(stages) == len(expected)
    patches = None
    for stage, labels in zip(stages, expected):
        # Each golden map numbers the tokens of its own merge: compose them over the patches.
        tokens = torch.from_numpy(labels).long()
        patches = tokens if patches is None else tokens.gather(1, patches)
        assert torch.equal(canonical(stage.labels), canonical(patches))

    for level, feature in enumerate(features, start=1):
        reference = torch.from_numpy(golden[f'f{level}'])
        error = (feature - reference).abs().max() / reference.abs().max()
        assert error < 1e-4, f'level {level}: {error:.2e}'


def test_every_golden_case_is_run(golden_dir):
    assert sorted(path.stem for path in golden_dir.glob('*.npz')) == CASES


@pytest.mark.parametrize('size', ['tiny', 'small'])
@pytest.mark.parametrize('kind', ['dense', 'merging'])
def test_state_dict_has_the_released_keys_and_shapes(golden_dir, size, kind):
    dim, heads = dict(tiny=(192, 3), small=(384, 6))[size]
    merging = dict(type='AgglomerativeMerging', keep_rate=0.5)
    kwargs = dict(embed_dim=dim, num_heads=heads, deform_num_heads=6)
    model = ViTAdapter(**kwargs) if kind == 'dense' else ATCViTAdapter(merging=merging, **kwargs)
    released = json.loads((golden_dir / f'keys_{size}_{kind}.json').read_text())
    classifier = ('backbone.cls_token', 'backbone.norm.', 'backbone.head.')
    released = {k: v for k, v in released.items() if not k.startswith(classifier)}
    assert {f'backbone.{k}': list(v.shape) for k, v in model.state_dict().items()} == released
