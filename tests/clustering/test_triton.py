"""The Triton form: the specification's labels, whatever the way to them.

Where there is no GPU Triton's interpreter runs the kernels (``tests/conftest.py``).
"""

from __future__ import annotations

import contextlib

import pytest
import torch

from mmdet_atc.clustering import naive
from mmdet_atc.clustering.forms import plain

from .families import FAMILIES, LINKAGES, clustered, features_of, nearly_flat, noise, padded

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
from mmdet_atc.clustering.forms.triton import engine

from .interleaved import interleaved

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SMALL = dict(TILE=16, STEP=16, TOKENS=8, PAIRS=16, ROWS=4, WIDTH=16, BLOCK=16)
#: On a GPU tiles have to be those that are compiled anyway.
BLOCKS = engine.BLOCKS if torch.cuda.is_available() else SMALL


def labels_of(features, num_clusters, linkage, programs=1):
    features = features.to(DEVICE)
    return engine.cluster_features(features, num_clusters, linkage, programs, BLOCKS).cpu()


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('family', FAMILIES)
def test_labels_equal_the_specification_ties_included(family, linkage):
    features = features_of(family, 3, 13, 5)
    expected = naive.cluster_features(features, 5, linkage)
    assert torch.equal(labels_of(features, 5, linkage), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('linkage', LINKAGES)
def test_dtypes_and_sizes(linkage, dtype):
    for n, num_clusters, c in ((1, 1, 3), (2, 1, 1), (2, 2, 3), (17, 9, 33)):
        features = features_of(clustered, n, n, c, dtype)
        expected = naive.cluster_features(features, num_clusters, linkage)
        assert torch.equal(labels_of(features, num_clusters, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('family', [clustered, nearly_flat], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ('attempts', 'room', 'per_token'),
    [(0, 2**15, 64), (1, 16, 1), (8, 16, 1), (8, 16, 4)],
    ids=['all distances', 'one short list', 'short lists', 'longer lists'],
)
def test_wrong_limits_and_full_lists_cost_time_only(
    family, linkage, attempts, room, per_token, monkeypatch
):
    monkeypatch.setattr(engine, 'ATTEMPTS', attempts)
    monkeypatch.setattr(engine, 'ROOM', room)
    monkeypatch.setattr(engine, 'PAIRS_PER_TOKEN', per_token)
    features = features_of(family, 5, 14, 6)
    features[0, 8:10] = features[0, 3]
    expected = naive.cluster_features(features, 4, linkage)
    assert torch.equal(labels_of(features, 4, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_a_limit_far_too_small_grows(linkage, monkeypatch):
    monkeypatch.setattr(engine, 'first_limit', lambda *_: (0.0, 0.0))
    features = features_of(clustered, 2, 14, 6)
    expected = naive.cluster_features(features, 4, linkage)
    assert torch.equal(labels_of(features, 4, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_a_flat_image_is_one_cluster_without_all_distances(linkage, monkeypatch):
    monkeypatch.setattr(engine, 'PAIRS_PER_TOKEN', 1)
    monkeypatch.setattr(engine, 'ROOM', 16)
    monkeypatch.setattr(engine, 'ATTEMPTS', 2)
    features = torch.ones(1, 24, 4)
    assert labels_of(features, 1, linkage).eq(0).all()
    assert labels_of(features, 3, linkage).tolist() == [[0] * 22 + [1, 2]]


@pytest.mark.parametrize('linkage', LINKAGES)
def test_tokens_that_are_not_finite_get_valid_labels(linkage):
    features = features_of(noise, 0, 20, 4, torch.float32)
    features[0, 3, 1] = torch.nan
    features[0, 7] = torch.inf
    labels = labels_of(features, 6, linkage)
    assert labels.unique().tolist() == list(range(6))


@pytest.mark.parametrize('linkage', LINKAGES)
def test_tiles_as_wide_as_a_row_of_bits(linkage, monkeypatch):
    monkeypatch.setitem(BLOCKS, 'TILE', 64)
    features = features_of(clustered, 4, 130, 8, torch.float32)
    for num_clusters in (100, 20):
        expected = plain.cluster_features(features, num_clusters, linkage)
        assert torch.equal(labels_of(features, num_clusters, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('family', [clustered, noise, padded], ids=lambda f: f.__name__)
def test_programs_of_an_image_wait_for_each_other(family, linkage):
    features = features_of(family, 3, 17, 5)
    expected = naive.cluster_features(features, 8, linkage)
    for seed in range(2):
        on_host = interleaved(seed) if DEVICE == 'cpu' else contextlib.nullcontext()
        with on_host:
            found = labels_of(features, 8, linkage, programs=3)
        assert torch.equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize('linkage', LINKAGES)
def test_larger_images_equal_plain_torch(linkage):
    features = features_of(clustered, 9, 100, 16, torch.float32)
    expected = plain.cluster_features(features, 40, linkage)
    assert torch.equal(labels_of(features, 40, linkage), expected)
