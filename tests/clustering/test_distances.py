"""The distance as whole numbers, against Python's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_atc.clustering import naive
from mmdet_atc.clustering.distances import (
    FRACTION_BITS,
    ONE,
    Sums,
    excess,
    fixed_point,
    mean_distances,
    token_distances,
)

from .families import FAMILIES, features_of

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def exact_directions(x: torch.Tensor) -> list[list[int]]:
    return [naive._direction(row) for row in x.double().tolist()]


def square(q: list[int], r: list[int]) -> int:
    return sum((x - y) ** 2 for x, y in zip(q, r)) if any(q) and any(r) else 2**95


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('family', FAMILIES)
@settings(max_examples=10)
@given(n=st.integers(1, 12), c=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_directions_and_distances_are_those_of_the_specification(family, dtype, n, c, seed):
    features = features_of(family, seed, n, c, dtype)[0]
    q = fixed_point(features)
    expected = exact_directions(features)
    assert q.tolist() == expected
    assert excess(q).tolist() == [sum(v * v for v in d) - 2**94 if any(d) else 0 for d in expected]
    distances = [[square(x, y) >> 34 for y in expected] for x in expected]
    for i in range(n):
        distances[i][i] = 0
    assert token_distances(q).tolist() == distances


@pytest.mark.parametrize('channels', [20, 64])
def test_no_rounding_is_left_to_a_library(channels):
    """The square root of torch 2.11's MKL is wrong in the last bit for some of these."""
    features = torch.randn(5000, channels, dtype=torch.float64)
    assert fixed_point(features).tolist() == exact_directions(features)


@settings(max_examples=60)
@given(n=st.integers(2, 30), c=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_mean_distances_are_exact(n, c, seed):
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(n, c)))
    features[rng.random(n) < 0.2] = 0
    q = fixed_point(features)
    owner = rng.integers(0, 4, n)
    sums = Sums.of_tokens(q, torch.ones(n, dtype=torch.int64))
    clusters = [np.flatnonzero(owner == k) for k in range(4) if (owner == k).any()]
    for first, *others in clusters:
        for other in others:
            sums.merge_(torch.tensor([first]), torch.tensor([other]))
    heads = sums.at(torch.tensor([cluster[0] for cluster in clusters]))
    means = mean_distances(heads, heads).tolist()
    directions = exact_directions(features)
    for i, x in enumerate(clusters):
        for j, y in enumerate(clusters):
            total = sum(square(directions[a], directions[b]) for a in x for b in y)
            if i != j:
                assert means[i][j] == total // (len(x) * len(y) * 2**34)


def test_clusters_of_the_largest_images_fit():
    """Sums of equal and of opposite directions, half an image each: as large as they get."""
    x = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [0.6, 0.8]])
    count = torch.tensor([16384, 16383, 16383, 16383])
    sums = Sums.of_tokens(fixed_point(x), count)
    means = mean_distances(sums, sums)
    assert means[0, 1] == 0
    assert means[0, 2] == 2 * ONE
    assert means[0, 3] == token_distances(fixed_point(x))[0, 3]


@pytest.mark.parametrize('dtype', DTYPES)
def test_it_is_one_less_cosine(dtype):
    features = torch.randn(40, 24).to(dtype)
    distances = token_distances(fixed_point(features)).double() / 2**FRACTION_BITS
    directions = torch.nn.functional.normalize(features.double(), dim=-1)
    expected = (1 - directions @ directions.T).fill_diagonal_(0)
    torch.testing.assert_close(distances, expected, rtol=0, atol=1e-13)


def test_equal_directions_are_at_distance_zero():
    f = torch.randn(20, 64, dtype=torch.float64)
    for scale in (1.0, 2.0, 3.0, 0.1, 1e300, 1e-300):
        distances = token_distances(fixed_point(torch.cat([f, scale * f])))
        assert not distances[:20, 20:].diagonal().any()


@pytest.mark.parametrize('power', [-1070, -600, -100, 100, 600, 1020])
def test_magnitudes_do_not_matter(power):
    features = torch.randn(30, 16, dtype=torch.float64).clamp(-8, 8)
    if power == -1070:  # few bits are left of a subnormal number
        features = features.sign()
    half = 2.0 ** (power // 2)  # all of it would not fit
    scaled = features * half * 2.0 ** (power - power // 2)
    assert torch.equal(fixed_point(scaled), fixed_point(features))
