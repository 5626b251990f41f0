"""Inputs that clustering finds hard: ties, duplicates, near ties, chains."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LINKAGES = ['single', 'complete', 'average']


def noise(rng, n, c):
    return rng.normal(size=(n, c))


def small_integers(rng, n, c):
    """Zero vectors, equal directions, ties but for the last bits."""
    return rng.integers(-1, 2, (n, c)) * 3.0 ** rng.integers(0, 3, (n, 1))


def scaled_copies(rng, n, c):
    """f, 2f, 3f ..: directions that are equal, or equal but for rounding."""
    originals = rng.normal(size=(1 + n // 4, c))
    return originals[rng.integers(0, len(originals), n)] * rng.integers(1, 8, (n, 1))


def padded(rng, n, c):
    """Half of the tokens are one of two constants, one of them zero."""
    x = rng.normal(size=(n, c))
    x[rng.random(n) < 0.4] = 0
    x[rng.random(n) < 0.4] = 0.7
    return x


def flat(rng, n, c):
    return np.ones((n, c))


def all_zero(rng, n, c):
    return np.zeros((n, c))


def orthogonal(rng, n, c):
    """All distances are 0 or 1."""
    return np.eye(max(n, c))[rng.permutation(n)][:, :c]


def nearly_flat(rng, n, c):
    """Distances of a few units in the last place, whose means are often equal when rounded down."""
    return rng.normal(size=(1, c)) + 1e-9 * rng.normal(size=(n, c))


def flat_but_for_last_bits(rng, n, c):
    return 1 + 2.0**-52 * rng.integers(-2, 3, (n, c))


def few_levels(rng, n, c):
    """A flat area in half precision: distances that tie but for the rounding of directions."""
    return 1 + 2.0**-10 * rng.integers(0, 3, (n, c))


def chain(rng, n, c):
    """On an arc, each gap a little wider than the last: one reciprocal pair at a time."""
    angle = np.cumsum(1 + 0.01 * np.arange(n))[rng.permutation(n)] / (2 * n)
    return np.pad(np.stack([np.cos(angle), np.sin(angle)], axis=1), ((0, 0), (0, max(0, c - 2))))


def clustered(rng, n, c):
    return rng.normal(size=(4, c))[rng.integers(0, 4, n)] + 0.1 * rng.normal(size=(n, c))


FAMILIES = [
    noise,
    small_integers,
    scaled_copies,
    padded,
    flat,
    all_zero,
    orthogonal,
    nearly_flat,
    flat_but_for_last_bits,
    few_levels,
    chain,
    clustered,
]


def features_of(family, seed: int, n: int, c: int, dtype=torch.float64, batch: int = 1) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([family(rng, n, c) for _ in range(batch)])).to(dtype)


def symmetric(upper: np.ndarray) -> np.ndarray:
    upper = np.triu(upper, 1)
    return (upper + upper.T).astype(np.float32)


def random_distances(rng, n):
    return symmetric(rng.random((n, n)))


def three_distances(rng, n):
    return symmetric(rng.integers(1, 4, (n, n)))


def two_distances(rng, n):
    return symmetric(rng.integers(0, 2, (n, n)))


def equal_distances(rng, n):
    return symmetric(np.ones((n, n)))


def whole_numbers_on_a_line(rng, n):
    points = rng.permutation(n).astype(np.float64)
    return np.abs(points[:, None] - points).astype(np.float32)


def gaps_that_widen(rng, n):
    points = np.cumsum(1 + 0.01 * np.arange(n))[rng.permutation(n)]
    return np.abs(points[:, None] - points).astype(np.float32)


#: Of given distances.
DISTANCES = [
    random_distances,
    three_distances,
    two_distances,
    equal_distances,
    whole_numbers_on_a_line,
    gaps_that_widen,
]
