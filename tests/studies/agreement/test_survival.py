"""Tokens per region and cluster sizes, by hand and by their sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet_atc.studies.agreement import (
    REGIONS,
    Segments,
    cluster_sizes,
    patch_overlap,
    region_shares,
    regular_blocks,
    tokens_per_region,
)


@pytest.fixture
def shares():
    """A grid of 2x3 patches: an object fills a quarter of the first, the last column is padding."""
    objects = np.zeros((1, 32, 32), dtype=np.uint8)
    objects[0, :8, :8] = 1
    crowd = np.zeros((1, 32, 32), dtype=np.uint8)
    crowd[0, 16:, 16:] = 1
    segments = Segments.of_masks(objects, crowd)
    return region_shares(segments, patch_overlap(segments, (32, 32), (2, 3)))


def test_patches_are_shared_out_by_their_pixels(shares):
    expected = dict.fromkeys(REGIONS, 0.0)
    found = [dict(zip(REGIONS, row, strict=True)) for row in shares.tolist()]
    assert found[0] == expected | {'small objects': 0.25, 'background': 0.75}
    assert found[1] == found[3] == expected | {'background': 1.0}
    assert found[4] == expected | {'void': 1.0}
    assert found[2] == found[5] == expected | {'padding': 1.0}


def test_a_cluster_counts_in_the_regions_of_its_patches(shares):
    labels = np.array([[0, 1, 1], [2, 3, 3]])
    tokens = dict(zip(REGIONS, tokens_per_region(shares, labels), strict=True))
    assert tokens['small objects'] == 0.25
    assert tokens['background'] == 0.75 + 0.5 + 1
    assert tokens['void'] == 0.5
    assert tokens['padding'] == 1
    assert sum(tokens.values()) == 4


def test_objects_are_parted_by_the_areas_of_cocos_evaluation():
    objects = np.zeros((4, 128, 128), dtype=np.uint8)
    for number, (rows, cols) in enumerate([(31, 33), (32, 32), (95, 97), (96, 96)]):
        objects[number, :rows, :cols] = 1
    assert objects.sum(axis=(1, 2)).tolist() == [1023, 1024, 9215, 9216]
    for number, region in enumerate(['small', 'medium', 'medium', 'large']):
        segments = Segments.of_masks(objects[number : number + 1], objects[:0])
        shares = region_shares(segments, patch_overlap(segments, (128, 128), (8, 8)))
        found = {name for name, total in zip(REGIONS, shares.sum(axis=0)) if total}
        assert found == {f'{region} objects', 'background'}


def test_sizes_are_counted_in_powers_of_two_and_padding_apart(shares):
    labels = np.array([[0, 0, 2], [0, 1, 2]])
    sizes, padding = cluster_sizes(shares, labels)
    assert sizes.tolist() == [1, 1]  # one of 1 patch, one of 3
    assert padding == 1
    everything, padding = cluster_sizes(shares, np.zeros(6, dtype=int))
    assert everything.tolist() == [0, 0, 1]  # 6 patches
    assert padding == 0


@given(st.lists(st.integers(0, 5), min_size=24, max_size=24))
def test_tokens_of_all_regions_are_the_clusters(raw):
    labels = np.unique(raw, return_inverse=True)[1]
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(len(REGIONS)), size=24)
    assert tokens_per_region(shares, labels).sum() == pytest.approx(labels.max() + 1)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_regular_blocks_are_rectangles_of_about_equal_size(height, width, data):
    number = data.draw(st.integers(1, height * width))
    labels = regular_blocks((height, width), number)
    found = np.unique(labels)
    assert found.tolist() == list(range(len(found)))
    assert len(found) <= number
    sides = []
    for label in found[:: max(1, len(found) // 20)]:
        rows, cols = np.nonzero(labels == label)
        assert (labels[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] == label).all()
        sides.append((np.ptp(rows) + 1, np.ptp(cols) + 1))
    assert np.ptp(sides, axis=0).max() <= 1


def test_as_many_blocks_as_patches_are_the_patches():
    assert regular_blocks((3, 5), 15).tolist() == np.arange(15).reshape(3, 5).tolist()
    assert len(np.unique(regular_blocks((50, 84), 2100))) > 2000
