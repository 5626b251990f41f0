"""The public functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmdet_atc.clustering import NonFiniteError, agglomerative_clustering, linkage_clustering

from .families import LINKAGES


def random_distances(generator: torch.Generator, batch: int, num_tokens: int) -> torch.Tensor:
    upper = torch.rand(batch, num_tokens, num_tokens, generator=generator).triu(1)
    return upper + upper.transpose(1, 2)


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
    assert torch.equal(labels, agglomerative_clustering(features.double(), 20, linkage))


def test_autocast_does_not_lower_the_precision():
    features = torch.randn(2, 200, 32)
    expected = agglomerative_clustering(features, 100)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(agglomerative_clustering(features, 100), expected)


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


def test_numpys_whole_numbers_are_numbers():
    features = torch.rand(1, 6, 4)
    labels = agglomerative_clustering(features, np.int64(3))
    assert torch.equal(labels, agglomerative_clustering(features, 3))


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


def test_shapes_are_checked():
    with pytest.raises(ValueError, match='features must be a tensor, got ndarray'):
        agglomerative_clustering(np.zeros((1, 4, 4)), 2)
    with pytest.raises(ValueError, match='features must be a batch of float matrices'):
        agglomerative_clustering(torch.rand(1, 4, 0), 2)
    with pytest.raises(ValueError, match='features must be a batch of float matrices'):
        agglomerative_clustering(torch.rand(4, 4), 2)
    with pytest.raises(ValueError, match='float matrices'):
        agglomerative_clustering(torch.zeros(1, 4, 4, dtype=torch.long), 2)
    with pytest.raises(ValueError, match=r'distances must be \(B, N, N\), got \(1, 4, 3\)'):
        linkage_clustering(torch.rand(1, 4, 3), 2)
    with pytest.raises(ValueError, match='features must be of at most 32767 tokens'):
        agglomerative_clustering(torch.rand(1, 32768, 1), 2)


def test_inputs_that_are_not_contiguous():
    features = torch.randn(16, 60, 2).permute(2, 1, 0)
    expected = agglomerative_clustering(features.contiguous(), 20)
    assert torch.equal(agglomerative_clustering(features, 20), expected)
    distances = random_distances(torch.Generator().manual_seed(1), 1, 60).expand(3, -1, -1)
    labels = linkage_clustering(distances, 20)
    assert torch.equal(labels[0], labels[2])
