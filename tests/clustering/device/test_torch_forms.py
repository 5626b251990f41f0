"""The plain torch forms equal the specification, ties included; they run on any device."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_atc.clustering import linkage_clustering
from mmdet_atc.clustering.device import cluster_directions, cluster_square, engine
from mmdet_atc.clustering.device.torch_rounds import round_labels
from mmdet_atc.clustering.device.torch_tree import tree_labels
from mmdet_atc.clustering.naive import naive_labels

from ..test_exactness import FAMILIES, ranks

LINKAGES = ['single', 'complete', 'average']
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture(autouse=True)
def _plain_torch(monkeypatch):
    monkeypatch.setenv(engine.ENVIRONMENT, '0')


def labels_of(distances: np.ndarray, num_clusters: int, linkage: str) -> list[list[int]]:
    square = torch.from_numpy(distances).to(DEVICE)
    return cluster_square(square, num_clusters, linkage).tolist()


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('linkage', LINKAGES)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), n=st.integers(1, 24), batch=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_labels_equal_the_specification_ties_included(family, linkage, data, n, batch, seed):
    num_clusters = data.draw(st.integers(1, n))
    rng = np.random.default_rng(seed)
    # Images end after different numbers of rounds.
    distances = np.stack([ranks(family(rng, n)) for _ in range(batch)])
    expected = [naive_labels(image, num_clusters, linkage).tolist() for image in distances]
    assert labels_of(distances, num_clusters, linkage) == expected


@pytest.mark.parametrize('linkage', LINKAGES)
def test_images_of_different_kinds_in_one_batch(linkage):
    rng = np.random.default_rng(3)
    distances = np.stack([ranks(family(rng, 20)) for family in FAMILIES])
    for num_clusters in range(1, 21):
        expected = [naive_labels(image, num_clusters, linkage).tolist() for image in distances]
        assert labels_of(distances, num_clusters, linkage) == expected


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('linkage', LINKAGES)
def test_larger_inputs_equal_the_cpu_engine(family, linkage):
    distances = torch.from_numpy(ranks(family(np.random.default_rng(5), 150)))[None]
    for num_clusters in (1, 20, 75, 140, 149):
        expected = linkage_clustering(distances, num_clusters, linkage, backend='cpu')
        assert labels_of(distances.numpy(), num_clusters, linkage) == expected.tolist()


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_is_clustered_exactly(linkage, dtype):
    distances = torch.rand(2, 40, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    distances = distances.triu(1) + distances.triu(1).mT
    labels = cluster_square(distances.to(DEVICE), 13, linkage).cpu()
    assert torch.equal(labels, linkage_clustering(distances, 13, linkage, backend='cpu'))


@pytest.mark.parametrize('linkage', LINKAGES)
def test_cosine_distance_of_features_as_on_the_cpu(linkage):
    """Distances may differ in the last bit; these features leave a margin."""
    generator = torch.Generator().manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(3, 60, 16, generator=generator), dim=-1)
    distances = 1 - directions.double() @ directions.double().mT
    expected = linkage_clustering(distances, 20, linkage, backend='cpu')
    assert torch.equal(cluster_directions(directions.to(DEVICE), 20, linkage).cpu(), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_equal_and_zero_vectors(linkage):
    directions = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 0], [0, 0]])[None]
    labels = cluster_directions(directions.to(DEVICE), 4, linkage).tolist()
    assert labels == [[0, 1, 0, 1, 0, 2, 3]]


@pytest.mark.parametrize('linkage', LINKAGES)
def test_unchecked_nan_still_ends_in_labels(linkage):
    x = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    x[0, 3] = torch.nan
    x[1, :, 4] = torch.inf
    x[1, 5] = -torch.inf
    for function in (cluster_square, cluster_directions):
        labels = function(x.to(DEVICE), 5, linkage)
        assert all(set(row) == set(range(5)) for row in labels.tolist())


@pytest.mark.parametrize('linkage', LINKAGES)
def test_unchecked_distances_too_large_to_be_added_up_still_end_in_labels(linkage):
    x = torch.rand(2, 40, 40, dtype=torch.float64) * 1e308
    labels = cluster_square(x.to(DEVICE), 5, linkage)
    assert all(set(row) == set(range(5)) for row in labels.tolist())


@pytest.mark.parametrize('linkage', LINKAGES)
def test_only_the_part_above_the_diagonal_is_read_and_nothing_written(linkage):
    upper = torch.rand(1, 30, 30, generator=torch.Generator().manual_seed(0)).triu(1)
    distances = (upper + torch.full((30, 30), 7.0).tril()).to(DEVICE)
    before = distances.clone()
    labels = cluster_square(distances, 9, linkage).cpu()
    assert torch.equal(labels, linkage_clustering(upper + upper.mT, 9, linkage, backend='cpu'))
    assert torch.equal(distances, before)


def test_rounded_sums_cannot_stop_the_rounds():
    """Sums of arbitrary magnitudes round, and the rounded means are not quite reducible."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = 1 + rng.integers(0, 3, (1, 40, 40)) * 2.0**-52
        x = np.triu(x, 1) + np.triu(x, 1).transpose(0, 2, 1)
        for num_clusters in (1, 10):
            (labels,) = labels_of(x, num_clusters, 'average')
            assert set(labels) == set(range(num_clusters))


@pytest.mark.parametrize('linkage', LINKAGES)
def test_empty_batches_and_single_tokens(linkage):
    assert cluster_square(torch.zeros(0, 4, 4, device=DEVICE), 2, linkage).shape == (0, 4)
    assert cluster_square(torch.zeros(2, 1, 1, device=DEVICE), 1, linkage).tolist() == [[0], [0]]


@pytest.mark.parametrize('form', ['rounds', 'tree'])
def test_the_host_waits_once_per_round(form, monkeypatch):
    """A line of pairs of pairs: as many rounds as the tree of pairs is high."""
    points = np.array([0, 1, 10, 11, 100, 101, 110, 111.0]) + 1000 * np.arange(2)[:, None]
    points = torch.from_numpy(points.reshape(1, 16))
    square = (points[..., None] - points[:, None]).abs()
    transfers = []

    def counted(function):
        def call(*args):
            transfers.append(function)
            return function(*args)

        return call

    for name in ('tolist', 'item', '__int__', '__bool__', 'cpu'):
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    labels = round_labels(square, 1, 'complete') if form == 'rounds' else tree_labels(square, 1)
    assert len(transfers) <= 4 + 2
    assert labels.unique().numel() == 1


def test_missing_triton_is_said_once(monkeypatch):
    monkeypatch.setenv(engine.ENVIRONMENT, '1')
    monkeypatch.setitem(__import__('sys').modules, 'triton', None)
    engine._kernels_work.cache_clear()
    device = torch.device('cuda', 0)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            assert not engine.use_triton(device, 9)
            assert not engine.use_triton(device, 9)
    finally:
        engine._kernels_work.cache_clear()
    (note,) = caught
    assert 'Triton cannot be imported' in str(note.message)
    assert 'plain torch' in str(note.message)


@pytest.mark.parametrize('linkage', ['single', 'average'])
@pytest.mark.parametrize('function', [cluster_directions, cluster_square])
def test_large_batches_are_clustered_in_groups(function, linkage, monkeypatch):
    x = torch.rand(7, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = function(x, 5, linkage)
    sizes = []
    cluster = engine._cluster

    def counted(square, *args):
        sizes.append(len(square))
        return cluster(square, *args)

    monkeypatch.setattr(engine, '_cluster', counted)
    image = 12 * 12 * (8 if linkage == 'average' else 4)
    for most, groups in ((7 * image, [7]), (6 * image, [4, 3]), (image - 1, [1] * 7)):
        monkeypatch.setattr(engine, '_MOST_BYTES', most)
        sizes.clear()
        assert torch.equal(function(x, 5, linkage), expected)
        assert sizes == groups
