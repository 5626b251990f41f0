"""Measures by hand, and against their definitions on sets of pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmdet_atc.studies.agreement import (
    Segments,
    cluster_overlap,
    object_purity,
    object_under_segmentation_error,
    patch_overlap,
    purity,
    under_segmentation_error,
)
from mmdet_atc.studies.agreement.agreement import MEASURES

from .oracle import measures


def table(segments: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Overlap without void where each pixel is a patch."""
    areas = np.bincount(segments[segments > 0], minlength=segments.max(initial=0) + 1)[1:]
    patches = patch_overlap(Segments(segments, areas), segments.shape, segments.shape, 1)
    return cluster_overlap(patches, clusters)[:, :-1]


def test_a_cluster_across_a_border_by_hand():
    # 8 pixels of background and 4 of an object; one cluster has 1 + 3 of them.
    segments = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    clusters = np.array([[0, 0, 0, 1, 1, 1], [0, 2, 2, 2, 2, 3]])
    overlap = table(segments, clusters)
    assert overlap.tolist() == [[4, 0], [3, 0], [1, 3], [0, 1]]
    assert purity(overlap) == pytest.approx(11 / 12)
    assert object_purity(overlap) == 1
    # The cut cluster's smaller part counts for the background and for the object.
    assert under_segmentation_error(overlap) == pytest.approx(2 / 12)
    assert object_under_segmentation_error(overlap) == pytest.approx(1 / 4)


def test_an_object_that_loses_its_majority_is_lost():
    overlap = np.array([[10, 4, 0], [0, 3, 3]])
    assert object_purity(overlap) == pytest.approx(6 / 10)  # both of a tie win
    assert purity(overlap) == pytest.approx(13 / 20)
    assert under_segmentation_error(overlap) == pytest.approx((4 + 4 + 3 + 3) / 20)
    assert object_under_segmentation_error(overlap) == pytest.approx((4 + 3 + 3) / 10)


@st.composite
def pictures(draw) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    segments = draw(arrays.arrays(np.int64, shape, elements=st.integers(-1, 3)))
    raw = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 5)))
    return segments, np.unique(raw, return_inverse=True)[1].reshape(shape)


@given(pictures())
@settings(max_examples=200)
def test_measures_are_their_definitions(picture):
    segments, clusters = picture
    expected = measures(segments, clusters)
    overlap = table(segments, clusters)
    for name, measure in MEASURES.items():
        if expected[name] is None:
            assert math.isnan(measure(overlap)), name
        else:
            assert measure(overlap) == pytest.approx(float(expected[name]), abs=1e-12), name
