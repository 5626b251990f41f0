"""Every backend equals the specification, and scikit-learn where ties leave no choice."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from mmdet_atc.clustering import agglomerative_clustering, linkage_clustering, native
from mmdet_atc.clustering.distances import cosine_distances
from mmdet_atc.clustering.naive import naive_labels

LINKAGES = ['single', 'complete', 'average']


def symmetric(upper: np.ndarray) -> np.ndarray:
    upper = np.triu(upper, 1)
    return (upper + upper.T).astype(np.float32)


def random(rng, n):
    return symmetric(rng.random((n, n)))


def few_values(rng, n):
    """Mostly ties: three distinct distances."""
    return symmetric(rng.integers(1, 4, (n, n)))


def two_values(rng, n):
    return symmetric(rng.integers(0, 2, (n, n)))


def all_equal(rng, n):
    return symmetric(np.ones((n, n)))


def grid(rng, n):
    """Distances on a line of whole numbers, in random order."""
    points = rng.permutation(n).astype(np.float64)
    return np.abs(points[:, None] - points).astype(np.float32)


def chain(rng, n):
    """Each gap a little wider than the last: one reciprocal pair at a time."""
    points = np.cumsum(1 + 0.01 * np.arange(n))[rng.permutation(n)]
    return np.abs(points[:, None] - points).astype(np.float32)


def clustered(rng, n):
    points = rng.integers(0, 4, (n, 1)) * 10 + rng.normal(size=(n, 3))
    return np.linalg.norm(points[:, None] - points, axis=-1).astype(np.float32)


def padded(rng, n):
    """Real tokens and many equal ones, as padding gives."""
    points = np.where(rng.random((n, 1)) < 0.5, 0.0, rng.normal(size=(n, 4)))
    return np.linalg.norm(points[:, None] - points, axis=-1).astype(np.float32)


FAMILIES = [random, few_values, two_values, all_equal, grid, chain, clustered, padded]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of distances: whole numbers, whose sums are exact in any order."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.float32)


@pytest.mark.parametrize('near_share', [0.0, 1.0])
@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('linkage', LINKAGES)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(1, 24), seed=st.integers(0, 10**6))
def test_labels_equal_the_specification_ties_included(family, linkage, near_share, data, n, seed):
    """From all distances, and from near pairs as long as these last."""
    num_clusters = data.draw(st.integers(1, n))
    distances = ranks(family(np.random.default_rng(seed), n))
    with mock.patch.dict(native.NEAR_SHARE, {linkage: near_share}):
        labels = linkage_clustering(torch.from_numpy(distances)[None], num_clusters, linkage)[0]
    assert labels.tolist() == naive_labels(distances, num_clusters, linkage).tolist()


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('linkage', LINKAGES)
@settings(max_examples=8, deadline=None)
@given(data=st.data(), n=st.integers(100, 500), seed=st.integers(0, 10**6))
def test_near_pairs_decide_as_all_distances_do(family, linkage, data, n, seed):
    num_clusters = data.draw(st.integers(1, n))
    distances = torch.from_numpy(ranks(family(np.random.default_rng(seed), n)))[None]
    labels = []
    for near_share in (0.0, 1.0):
        with mock.patch.dict(native.NEAR_SHARE, {linkage: near_share}):
            labels.append(linkage_clustering(distances, num_clusters, linkage))
    assert torch.equal(*labels)


@pytest.mark.parametrize('linkage', LINKAGES)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(1, 24), channels=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_labels_of_features_equal_the_specification_on_their_distances(
    linkage, data, n, channels, seed
):
    """Few whole numbers as features: equal rows, zero vectors, ties but for the last bit."""
    num_clusters = data.draw(st.integers(1, n))
    features = np.random.default_rng(seed).integers(-2, 3, (1, n, channels))
    features = torch.from_numpy(features.astype(np.float32))
    distances = cosine_distances(F.normalize(features, dim=-1))[0].numpy()
    expected = naive_labels(distances, num_clusters, linkage).tolist()
    for near_share in (0.0, 1.0):
        with mock.patch.dict(native.NEAR_SHARE, {linkage: near_share}):
            labels = agglomerative_clustering(features, num_clusters, linkage)[0]
        assert labels.tolist() == expected


def heights_of(distances: np.ndarray, linkage: str, num_clusters: int) -> np.ndarray:
    """Sorted heights of SciPy's merges up to ``num_clusters``."""
    tree = scipy_linkage(squareform(distances.astype(np.float64), checks=False), linkage)
    return tree[: len(distances) - num_clusters, 2]


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('n', [2, 3, 50, 333])
def test_merge_heights_equal_scipys(linkage, n):
    """Labels for every K give the dendrogram; its merge heights must be SciPy's."""
    distances = random(np.random.default_rng(n), n)
    tensor = torch.from_numpy(distances)[None]
    reduce = dict(single=np.min, complete=np.max, average=np.mean)[linkage]
    ks = range(n, 0, -1) if n <= 50 else range(n, n - 60, -1)
    before = None
    heights = []
    for k in ks:
        labels = linkage_clustering(tensor, k, linkage)[0].numpy()
        if before is not None:
            merged = {tuple(np.unique(before[labels == c])) for c in range(k)}
            ((x, y),) = [pair for pair in merged if len(pair) == 2]
            heights.append(reduce(distances[np.ix_(before == x, before == y)].astype(np.float64)))
        before = labels
    np.testing.assert_allclose(heights, heights_of(distances, linkage, ks[-1]), rtol=1e-12)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('linkage', LINKAGES)
def test_partitions_equal_scikit_learns_up_to_ties(family, linkage):
    """Equal labels where nothing ties; with ties, single linkage's cut holds what it must.

    Complete and average linkage have no unique partition under ties: those families are compared
    with the specification above, not with scikit-learn.
    """
    distances = family(np.random.default_rng(7), 120)
    tensor = torch.from_numpy(distances)[None]
    for num_clusters in (1, 12, 60, 108, 120):
        ours = linkage_clustering(tensor, num_clusters, linkage)[0]
        theirs = linkage_clustering(tensor, num_clusters, linkage, backend='sklearn')[0]
        if family in (random, clustered):
            assert torch.equal(ours, theirs)
        if linkage == 'single' and num_clusters > 1:
            # The partition of single linkage is decided by its cut height up to equal edges.
            tree = scipy_linkage(squareform(distances.astype(float), checks=False), 'single')
            cut = tree[len(distances) - num_clusters - 1, 2] if num_clusters < 120 else -1.0
            inside = squareform(cophenet(tree)) < cut
            assert (ours[:, None] == ours)[torch.from_numpy(inside)].all()


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('threads', [1, 2])
def test_threads_and_runs_do_not_change_labels(linkage, threads):
    features = torch.randn(5, 200, 16)
    expected = agglomerative_clustering(features, 80, linkage)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(3):
            assert torch.equal(agglomerative_clustering(features, 80, linkage), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('threads', [2, 5])
def test_threads_within_an_image_do_not_change_labels(linkage, threads, monkeypatch):
    """One image by several threads; torch's own setting is 1 where tests run side by side."""
    generator = torch.Generator().manual_seed(threads)
    features = torch.randn(1, 700, 16, generator=generator)
    distances = cosine_distances(F.normalize(features, dim=-1))
    for num_clusters in (70, 350, 630):
        for near_share in (0.0, native.NEAR_SHARE[linkage], 1.0):
            labels = []
            for count in (1, threads):
                monkeypatch.setattr(torch, 'get_num_threads', lambda count=count: count)
                with mock.patch.dict(native.NEAR_SHARE, {linkage: near_share}):
                    labels.append(agglomerative_clustering(features, num_clusters, linkage))
                    labels.append(linkage_clustering(distances, num_clusters, linkage))
            assert all(torch.equal(x, labels[0]) for x in labels[1:])


def test_the_callers_distances_are_not_changed():
    distances = torch.from_numpy(random(np.random.default_rng(0), 40))[None]
    before = distances.clone()
    for linkage in LINKAGES:
        linkage_clustering(distances, 10, linkage)
        assert torch.equal(distances, before)


def test_inputs_that_are_not_contiguous():
    features = torch.randn(16, 60, 2).permute(2, 1, 0)
    expected = agglomerative_clustering(features.contiguous(), 20)
    assert torch.equal(agglomerative_clustering(features, 20), expected)
    distances = torch.from_numpy(random(np.random.default_rng(1), 60)).expand(3, -1, -1)
    labels = linkage_clustering(distances, 20)
    assert torch.equal(labels[0], labels[2])


@pytest.mark.slow
@pytest.mark.parametrize('linkage', LINKAGES)
def test_full_size_equals_scikit_learn(linkage):
    """4,200 tokens, a smooth field of keys as a feature map has."""
    torch.manual_seed(1)
    coarse = torch.randn(1, 64, 10, 16)
    field = torch.nn.functional.interpolate(coarse, (50, 84), mode='bicubic')
    keys = (field + 0.3 * torch.randn(1, 64, 50, 84)).flatten(2).transpose(1, 2)
    for num_clusters in (1, 2, 1050, 2100, 4199):
        ours = agglomerative_clustering(keys, num_clusters, linkage)
        theirs = agglomerative_clustering(keys, num_clusters, linkage, backend='sklearn')
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize('linkage', LINKAGES)
def test_a_batch_of_eight_equals_scikit_learn(linkage):
    features = torch.randn(8, 1050, 64, generator=torch.Generator().manual_seed(2))
    for num_clusters in (1, 262, 525, 945, 1049):
        ours = agglomerative_clustering(features, num_clusters, linkage)
        theirs = agglomerative_clustering(features, num_clusters, linkage, backend='sklearn')
        assert torch.equal(ours, theirs)
