"""The backbone equals its plain twin, and the twin the authors' model where their outputs are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .micro import MICRO, canonical, micro
from .test_golden import CASES
from .twin import Twin

HEADS = dict(heads=MICRO['num_heads'], deform_heads=MICRO['deform_num_heads'])


def lively(merging, **kwargs):
    """A micro model whose every tensor matters, running statistics included."""
    model = micro(merging, **kwargs).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(('bias', 'running_mean', 'gamma')):
            tensor.normal_(std=0.2)
        elif name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average', None])
@pytest.mark.parametrize(('keep_rate', 'which'), [(0.5, 'last'), (0.5, 'each'), (0.8, 'last')])
def test_the_backbone_is_its_twin(linkage, keep_rate, which):
    merging = linkage and dict(linkage=linkage, keep_rate=keep_rate)
    model = lively(merging, merge_blocks=(3, 6, 9), vit_features=which).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    options = dict(linkage=linkage, keep_rate=keep_rate, each=which == 'each')
    twin = Twin(model.state_dict(), **options, **HEADS)
    with torch.no_grad():
        features, stages = model.forward_with_clusters(images)
        for index, image in enumerate(images):
            maps, partitions = twin(image)
            assert len(partitions) == len(stages) == (3 if linkage else 0)
            for stage, labels in zip(stages, partitions, strict=True):
                assert torch.equal(
                    canonical(stage.labels[index : index + 1]), canonical(labels[None])
                )
            for found, expected in zip(features, maps, strict=True):
                # Reference points and sizes of clusters are float32.
                torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('case', [case for case in CASES if not case.startswith('tome')])
def test_the_twin_is_the_authors_model(golden_dir, case):
    golden = np.load(golden_dir / f'{case}.npz')
    linkage, rate, _ = case.split('_')
    state = torch.load(golden_dir / 'micro_released_layout.pth', weights_only=True)['state_dict']
    twin = Twin(
        {name.removeprefix('backbone.'): value for name, value in state.items()},
        linkage=None if linkage == 'dense' else linkage,
        keep_rate=int(rate[1:]) / 100,
        **HEADS,
    )
    for index, image in enumerate(torch.from_numpy(golden['input'])):
        for level, found in enumerate(twin(image)[0], start=1):
            expected = torch.from_numpy(golden[f'f{level}'][index])
            error = (found - expected).abs().max() / expected.abs().max()
            assert error < 1e-5, f'level {level}: {error:.2e}'
