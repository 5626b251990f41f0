"""The Triton kernels equal the specification, ties included.

Where there is no GPU Triton's interpreter runs them (``tests/conftest.py``): the same logic, one
program after the other.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_atc.clustering import linkage_clustering
from mmdet_atc.clustering.device import cluster_directions, cluster_square, engine
from mmdet_atc.clustering.naive import naive_labels

from ..test_exactness import FAMILIES, ranks

triton_distances = pytest.importorskip(
    'mmdet_atc.clustering.device.triton_distances', reason='Triton is not installed'
)
from mmdet_atc.clustering.device import triton_rounds, triton_tree  # noqa: E402

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
#: On a GPU a block holds at least a value per thread.
BLOCK = 1024 if torch.cuda.is_available() else 8


@pytest.fixture(autouse=True)
def _triton(monkeypatch):
    monkeypatch.setenv(engine.ENVIRONMENT, '1')


def batch_of(seed: int, n: int) -> np.ndarray:
    """One image of every family: they end after different numbers of rounds."""
    rng = np.random.default_rng(seed)
    return np.stack([ranks(family(rng, n)) for family in FAMILIES])


def expected_labels(distances: np.ndarray, num_clusters: int, linkage: str) -> list[list[int]]:
    return [naive_labels(image, num_clusters, linkage).tolist() for image in distances]


@pytest.mark.parametrize('num_clusters', [1, 4])
@pytest.mark.parametrize('linkage', ['complete', 'average'])
@pytest.mark.parametrize(
    ('wide_rounds', 'programs'), [(0, 1), (2, 2), (99, 5)], ids=['narrow', 'mixed', 'wide']
)
def test_rounds_equal_the_specification_ties_included(num_clusters, linkage, wide_rounds, programs):
    distances = batch_of(num_clusters, 9)
    square = torch.from_numpy(distances).to(DEVICE)
    square = square.double() if linkage == 'average' else square
    labels = triton_rounds.round_labels(
        square, num_clusters, linkage, wide_rounds=wide_rounds, programs=programs, block=BLOCK
    )
    assert labels.tolist() == expected_labels(distances, num_clusters, linkage)


@pytest.mark.parametrize('num_clusters', [1, 4])
def test_tree_equals_the_specification_ties_included(num_clusters):
    distances = batch_of(num_clusters, 9) - 2  # negative and zero distances, too
    labels = triton_tree.tree_labels(torch.from_numpy(distances).to(DEVICE), num_clusters, BLOCK)
    assert labels.tolist() == expected_labels(distances, num_clusters, 'single')


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
@pytest.mark.parametrize('n', [1, 2, 3, 10])
def test_every_number_of_clusters(linkage, n):
    rng = np.random.default_rng(n)
    upper = torch.from_numpy(np.triu(rng.random((2, n, n)), 1)).float()
    distances = upper + upper.mT
    for num_clusters in {1, 2, n // 2, n - 1, n} & set(range(1, n + 1)):
        labels = cluster_square(distances.to(DEVICE), num_clusters, linkage).cpu()
        expected = linkage_clustering(distances, num_clusters, linkage, backend='cpu')
        assert torch.equal(labels, expected)


def test_signed_zeros_tie():
    distances = torch.zeros(1, 6, 6)
    distances[0, 2, 3] = distances[0, 3, 2] = -0.0
    labels = triton_tree.tree_labels(distances.to(DEVICE), 3, BLOCK)
    assert labels.tolist() == [[0, 0, 0, 0, 1, 2]]


@pytest.mark.parametrize('linkage', ['complete', 'average'])
def test_float64_distances(linkage):
    rng = np.random.default_rng(0)
    # Equal in float32.
    upper = torch.from_numpy(np.triu(1 + rng.permutation(24**2).reshape(1, 24, 24) * 2.0**-40, 1))
    distances = upper + upper.mT
    labels = cluster_square(distances.to(DEVICE), 9, linkage).cpu()
    assert torch.equal(labels, linkage_clustering(distances, 9, linkage, backend='cpu'))


def test_single_linkage_of_float64_takes_the_torch_form():
    assert triton_tree.fits(torch.zeros(1, 4, 4))
    assert not triton_tree.fits(torch.zeros(1, 4, 4).double())
    assert not triton_tree.fits(torch.empty(1, 2**14 + 1, 2**14 + 1, device='meta'))


@pytest.mark.parametrize('shape', [(1, 1, 3), (2, 70, 40), (1, 64, 32), (1, 130, 8)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_distances_are_those_of_float32_products(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
    square = triton_distances.cosine_square(directions.to(DEVICE), dtype).cpu()
    exact = 1 - directions.double() @ directions.double().mT
    assert square.dtype == dtype
    assert torch.equal(square, square.mT)
    assert torch.equal(square, square.float().to(dtype))
    # TF32 would be off by 2**-11.
    torch.testing.assert_close(square.double(), exact, rtol=0, atol=2**-21)


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
def test_features_to_labels(linkage):
    generator = torch.Generator().manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(2, 24, 16, generator=generator), dim=-1)
    exact = 1 - directions.double() @ directions.double().mT
    expected = linkage_clustering(exact, 9, linkage, backend='cpu')
    assert engine.use_triton(torch.device(DEVICE), 24)
    assert not engine.use_triton(torch.device(DEVICE), 2**15 + 1)
    assert torch.equal(cluster_directions(directions.to(DEVICE), 9, linkage).cpu(), expected)


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
def test_unchecked_nan_still_ends_in_labels(linkage):
    x = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    x[0, 3] = torch.nan
    x[1, :, 4] = torch.inf
    x[1, 5] = -torch.inf
    for function in (cluster_square, cluster_directions):
        labels = function(x.to(DEVICE), 5, linkage)
        assert all(set(row) == set(range(5)) for row in labels.tolist())


@pytest.mark.parametrize('linkage', ['complete', 'average'])
def test_unchecked_distances_too_large_to_be_added_up_still_end_in_labels(linkage):
    x = torch.rand(2, 12, 12, dtype=torch.float64) * 1e308
    labels = cluster_square(x.to(DEVICE), 5, linkage)
    assert all(set(row) == set(range(5)) for row in labels.tolist())


@pytest.mark.parametrize('wide_rounds', [0, 99])
def test_rounded_sums_cannot_stop_the_rounds(wide_rounds):
    """As in ``test_torch_forms.py``, where without its remedy this stops at once."""
    rng = np.random.default_rng(0)
    x = np.triu(1 + rng.integers(0, 3, (2, 24, 24)) * 2.0**-52, 1)
    square = torch.from_numpy(x + x.transpose(0, 2, 1)).to(DEVICE)
    labels = triton_rounds.round_labels(square, 3, 'average', wide_rounds, 4, BLOCK)
    assert all(set(row) == {0, 1, 2} for row in labels.tolist())


class Operators(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.split('.')[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
def test_the_host_reads_nothing_back(linkage):
    """On a GPU: a call is captured in a CUDA graph. Elsewhere: no operator waits for a value."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.nn.functional.normalize(
        torch.randn(2, 2, 24, 8, generator=generator).to(DEVICE), dim=-1
    )
    if DEVICE == 'cuda':
        expected = [cluster_directions(x, 9, linkage) for x in (first, second)]
        graph, x = torch.cuda.CUDAGraph(), first.clone()
        with torch.cuda.graph(graph):
            labels = cluster_directions(x, 9, linkage)
        for replay, want in zip((first, second), expected):
            x.copy_(replay)
            graph.replay()
            assert torch.equal(labels, want)
        return
    with Operators() as operators:
        cluster_directions(first, 9, linkage)
    assert 'sort' in operators.names
    assert not operators.names & {'_local_scalar_dense', 'nonzero', 'is_nonzero', 'masked_select'}


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
def test_the_layout_of_distances_does_not_matter(linkage):
    """Kernels count on rows one after another; without symmetry rounds would never end."""
    distances = torch.from_numpy(batch_of(0, 7)).to(DEVICE)
    images_last = distances.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not images_last.is_contiguous()
    labels = cluster_square(images_last, 3, linkage)
    assert labels.tolist() == expected_labels(distances.cpu().numpy(), 3, linkage)
