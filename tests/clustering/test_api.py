"""The public functions against scikit-learn and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_atc.clustering import NonFiniteError, agglomerative_clustering, linkage_clustering
from mmdet_atc.clustering.distances import unit_vectors

LINKAGES = ['single', 'complete', 'average']


def lowest_pair_first(distances: np.ndarray, num_clusters: int, linkage: str) -> list[int]:
    """Merge the closest pair of clusters until ``num_clusters`` are left (the definition)."""
    reduce = dict(single=np.min, complete=np.max, average=np.mean)[linkage]
    clusters = [[i] for i in range(len(distances))]
    while len(clusters) > num_clusters:
        pairs = [(i, j) for j in range(len(clusters)) for i in range(j)]
        heights = [reduce(distances[np.ix_(clusters[i], clusters[j])]) for i, j in pairs]
        i, j = pairs[int(np.argmin(heights))]
        clusters[i] = sorted(clusters[i] + clusters.pop(j))
    clusters.sort()
    labels = [0] * len(distances)
    for label, members in enumerate(clusters):
        for member in members:
            labels[member] = label
    return labels


def random_distances(generator: torch.Generator, batch: int, num_tokens: int) -> torch.Tensor:
    upper = torch.rand(batch, num_tokens, num_tokens, generator=generator).triu(1)
    return upper + upper.transpose(1, 2)


@pytest.mark.parametrize('linkage', LINKAGES)
@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    num_tokens=st.integers(1, 14),
    batch=st.integers(1, 3),
    seed=st.integers(0, 9999),
)
def test_it_merges_the_closest_pair_first(linkage, data, num_tokens, batch, seed):
    num_clusters = data.draw(st.integers(1, num_tokens))
    distances = random_distances(torch.Generator().manual_seed(seed), batch, num_tokens)
    labels = linkage_clustering(distances, num_clusters, linkage)
    for image in range(batch):
        expected = lowest_pair_first(distances[image].double().numpy(), num_clusters, linkage)
        assert labels[image].tolist() == expected


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('keep_rate', [0.25, 0.5, 0.7, 0.9])
def test_it_equals_scikit_learn(linkage, keep_rate):
    features = torch.randn(2, 300, 16)
    num_clusters = int(keep_rate * 300)
    labels = agglomerative_clustering(features, num_clusters, linkage)
    assert torch.equal(labels, agglomerative_clustering(features, num_clusters, linkage, 'sklearn'))


@pytest.mark.parametrize('linkage', LINKAGES)
def test_labels_are_a_numbering_by_smallest_member(linkage):
    labels = agglomerative_clustering(torch.randn(4, 50, 8), 13, linkage)
    assert labels.dtype == torch.int64
    for row in labels.tolist():
        firsts = [row.index(label) for label in range(13)]
        assert firsts == sorted(firsts)
        assert set(row) == set(range(13))


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_dtype(linkage, dtype):
    features = torch.randn(2, 60, 16).to(dtype)
    labels = agglomerative_clustering(features, 20, linkage)
    full = features if dtype == torch.float64 else features.float()
    assert torch.equal(labels, agglomerative_clustering(full, 20, linkage))


def test_autocast_does_not_lower_the_precision():
    features = torch.randn(2, 200, 32)
    expected = agglomerative_clustering(features, 100)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(agglomerative_clustering(features, 100), expected)


def test_images_do_not_mix():
    features = torch.randn(3, 40, 8)
    together = agglomerative_clustering(features, 10)
    for image in range(3):
        assert torch.equal(together[image], agglomerative_clustering(features[image, None], 10)[0])


def test_it_is_outside_the_graph():
    features = torch.randn(1, 10, 4, requires_grad=True)
    assert not agglomerative_clustering(features, 5).requires_grad


@pytest.mark.parametrize('linkage', LINKAGES)
def test_extremes(linkage):
    features = torch.randn(2, 9, 4)
    assert agglomerative_clustering(features, 9, linkage).tolist() == [list(range(9))] * 2
    assert agglomerative_clustering(features, 1, linkage).tolist() == [[0] * 9] * 2
    assert agglomerative_clustering(features[:, :1], 1, linkage).tolist() == [[0]] * 2
    for backend in ('cpu', 'sklearn'):
        assert agglomerative_clustering(features[:0], 3, linkage, backend).shape == (0, 9)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_equal_and_zero_vectors(linkage):
    features = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [2, 0]])[None]
    assert agglomerative_clustering(features, 2, linkage).tolist() == [[0, 1, 0, 1, 0]]
    labels = agglomerative_clustering(torch.zeros(1, 6, 4), 3, linkage)
    assert set(labels.flatten().tolist()) == {0, 1, 2}


@pytest.mark.parametrize('function', [agglomerative_clustering, linkage_clustering])
@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((0,), r'num_clusters must be an int in 1\.\.4, got 0'),
        ((5,), 'num_clusters .* got 5'),
        ((2.0,), 'num_clusters .* got 2.0'),
        ((2, 'ward'), "linkage must be one of .* got 'ward'"),
        ((2, 'average', 'gpu'), "backend must be one of .* got 'gpu'"),
        ((2, 'average', 'cuda'), "backend='cuda' needs CUDA tensors"),
    ],
)
def test_bad_arguments_are_refused(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(torch.rand(1, 4, 4), *args)


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_numbers_that_are_not_finite_name_the_image(bad):
    x = torch.rand(3, 4, 4)
    x[1, 2, 3] = bad
    with pytest.raises(NonFiniteError, match=r'features must be finite, but image\(s\) \[1\]'):
        agglomerative_clustering(x, 2)
    with pytest.raises(NonFiniteError, match=r'distances must be finite, but image\(s\) \[1\]'):
        linkage_clustering(x, 2)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_distances_up_to_the_limits_of_float64(linkage):
    """Average linkage adds N² of them up; single and complete add none."""
    distances = random_distances(torch.Generator().manual_seed(0), 1, 40).double()
    expected = linkage_clustering(distances, 7, linkage)
    assert torch.equal(linkage_clustering(distances * 2.0**1013, 7, linkage), expected)
    if linkage == 'average':
        with pytest.raises(NonFiniteError, match=r'\[0\] .* numbers of 1\.1e\+305 and more'):
            linkage_clustering(distances * 2.0**1014, 7, linkage)
    else:
        assert torch.equal(linkage_clustering(distances * 2.0**1023, 7, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_features_of_any_magnitude_have_a_direction(linkage):
    features = torch.randn(2, 60, 8)
    powers = torch.randint(-120, 120, (2, 60, 1))
    scaled = torch.ldexp(features, powers)
    assert torch.equal(
        agglomerative_clustering(scaled, 20, linkage),
        agglomerative_clustering(features, 20, linkage),
    )
    huge = torch.tensor([[1e30, 0], [0, 3e38], [1e-40, 0], [0, 1e-30], [0, 0]])[None]
    assert agglomerative_clustering(huge, 3, linkage).tolist() == [[0, 1, 0, 1, 2]]


def test_scaling_changes_no_bit_of_a_direction():
    features = torch.randn(3, 500, 64) * torch.logspace(-5, 5, 500)[:, None]
    assert torch.equal(unit_vectors(features), torch.nn.functional.normalize(features, dim=-1))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match='features must be a batch of float matrices'):
        agglomerative_clustering(torch.rand(1, 4, 0), 2)
    with pytest.raises(ValueError, match='features must be a batch of float matrices'):
        agglomerative_clustering(torch.rand(4, 4), 2)
    with pytest.raises(ValueError, match='float matrices'):
        agglomerative_clustering(torch.zeros(1, 4, 4, dtype=torch.long), 2)
    with pytest.raises(ValueError, match=r'distances must be \(B, N, N\), got \(1, 4, 3\)'):
        linkage_clustering(torch.rand(1, 4, 3), 2)
