"""Clustering by given distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from mmdet_atc.clustering import linkage_clustering
from mmdet_atc.clustering.forms import plain
from mmdet_atc.clustering.naive import naive_labels

from .families import DISTANCES, LINKAGES, random_distances


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of distances: whole numbers, whose sums are exact in any order."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.float32)


@pytest.mark.parametrize('family', DISTANCES)
@pytest.mark.parametrize('linkage', LINKAGES)
@settings(max_examples=25)
@given(data=st.data(), n=st.integers(1, 24), batch=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_labels_equal_the_specification_ties_included(family, linkage, data, n, batch, seed):
    num_clusters = data.draw(st.integers(1, n))
    rng = np.random.default_rng(seed)
    distances = np.stack([ranks(family(rng, n)) for _ in range(batch)])
    labels = linkage_clustering(torch.from_numpy(distances), num_clusters, linkage)
    expected = [naive_labels(image, num_clusters, linkage).tolist() for image in distances]
    assert labels.tolist() == expected


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('n', [2, 3, 50, 200])
def test_merge_heights_equal_scipys(linkage, n):
    """Labels for every K give the dendrogram; its merge heights must be SciPy's."""
    distances = random_distances(np.random.default_rng(n), n)
    tensor = torch.from_numpy(distances)[None]
    reduce = dict(single=np.min, complete=np.max, average=np.mean)[linkage]
    ks = range(n, 0, -1) if n <= 50 else range(n, n - 30, -1)
    before = None
    heights = []
    for k in ks:
        labels = linkage_clustering(tensor, k, linkage)[0].numpy()
        if before is not None:
            merged = {tuple(np.unique(before[labels == c])) for c in range(k)}
            ((x, y),) = [pair for pair in merged if len(pair) == 2]
            heights.append(reduce(distances[np.ix_(before == x, before == y)].astype(np.float64)))
        before = labels
    tree = scipy_linkage(squareform(distances.astype(np.float64), checks=False), linkage)
    np.testing.assert_allclose(heights, tree[: n - ks[-1], 2], rtol=1e-12)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_without_ties_labels_are_scikit_learns(linkage, dtype):
    generator = torch.Generator().manual_seed(7)
    order = torch.stack([torch.randperm(60 * 60, generator=generator) for _ in range(2)])
    distances = (order.view(2, 60, 60) / 3600).triu(1).to(dtype)
    distances = distances + distances.mT
    if dtype.itemsize == 2:  # rounded distances tie
        expected = linkage_clustering(distances.double(), 13, linkage)
        assert torch.equal(linkage_clustering(distances, 13, linkage), expected)
        return
    for num_clusters in (1, 12, 30, 59, 60):
        ours = linkage_clustering(distances, num_clusters, linkage)
        theirs = linkage_clustering(distances, num_clusters, linkage, backend='sklearn')
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('family', DISTANCES)
def test_the_cut_of_single_linkage_holds_what_it_must(family):
    """Its partition is decided by the cut's height up to equal edges."""
    distances = family(np.random.default_rng(7), 120)
    tree = scipy_linkage(squareform(distances.astype(float), checks=False), 'single')
    for num_clusters in (2, 12, 60, 108):
        labels = linkage_clustering(torch.from_numpy(distances)[None], num_clusters, 'single')[0]
        inside = squareform(cophenet(tree)) < tree[len(distances) - num_clusters - 1, 2]
        assert (labels[:, None] == labels)[torch.from_numpy(inside)].all()


@pytest.mark.parametrize('linkage', LINKAGES)
def test_only_the_part_above_the_diagonal_is_read_and_nothing_written(linkage):
    upper = torch.rand(1, 70, 70, generator=torch.Generator().manual_seed(0)).triu(1)
    garbage = upper + torch.full((70, 70), 1e30).tril()
    before = garbage.clone()
    expected = linkage_clustering(upper + upper.mT, 20, linkage, 'sklearn')
    assert torch.equal(linkage_clustering(garbage, 20, linkage), expected)
    assert torch.equal(garbage, before)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_what_is_not_finite_still_ends_in_labels(linkage):
    """On a GPU it is not looked at beforehand."""
    x = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    x[0, 3] = torch.nan
    x[1, :, 4] = torch.inf
    x[1, 5] = -torch.inf
    for form in (plain.cluster_distances, plain.cluster_features):
        for values in (x, x.double() * 1e308):
            assert all(set(row) == set(range(5)) for row in form(values, 5, linkage).tolist())


def test_rounded_sums_cannot_stop_the_rounds():
    """Sums of arbitrary magnitudes round, and the rounded means are not quite reducible."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = 1 + rng.integers(0, 3, (1, 40, 40)) * 2.0**-52
        for num_clusters in (1, 10):
            (labels,) = plain.cluster_distances(
                torch.from_numpy(x), num_clusters, 'average'
            ).tolist()
            assert set(labels) == set(range(num_clusters))


@pytest.mark.parametrize('linkage', LINKAGES)
def test_empty_batches_and_single_tokens(linkage):
    assert linkage_clustering(torch.zeros(0, 4, 4), 2, linkage).shape == (0, 4)
    assert linkage_clustering(torch.zeros(2, 1, 1), 1, linkage).tolist() == [[0], [0]]
