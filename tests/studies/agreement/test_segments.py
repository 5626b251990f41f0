"""From masks to segments, and from pixels to patches."""

from __future__ import annotations

import numpy as np
import pytest

from mmdet_atc.studies.agreement import Segments, cluster_overlap, patch_overlap

NONE = np.zeros((0, 4, 4), dtype=np.uint8)


def mask(rows: slice, cols: slice) -> np.ndarray:
    out = np.zeros((4, 4), dtype=np.uint8)
    out[rows, cols] = 1
    return out


def test_the_smaller_of_overlapping_objects_has_the_pixels():
    small, large = mask(slice(1, 3), slice(1, 3)), mask(slice(0, 4), slice(0, 3))
    for objects, numbers in (([small, large], (1, 2)), ([large, small], (2, 1))):
        segments = Segments.of_masks(np.stack(objects), NONE)
        assert segments.index[1, 1] == numbers[0]
        assert segments.index[0, 0] == numbers[1]
        assert (segments.index[:, 3] == 0).all()
        assert sorted(segments.areas) == [4, 12]


def test_crowds_are_void_where_there_is_no_object():
    crowd = mask(slice(0, 2), slice(0, 4))
    segments = Segments.of_masks(mask(slice(1, 3), slice(0, 1))[None], crowd[None])
    assert segments.index.tolist() == [
        [-1, -1, -1, -1], [1, -1, -1, -1], [1, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip


def test_an_image_without_instances_is_background():
    segments = Segments.of_masks(NONE, NONE)
    assert (segments.index == 0).all()
    assert segments.num_columns == 2


def test_masks_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match='of one size'):
        Segments.of_masks(NONE, np.zeros((1, 4, 5), dtype=np.uint8))


def test_pixels_count_in_their_patch_and_padding_holds_none():
    # 4x4 pixels, patches of 2, a grid of 2x3: the last column is padding.
    crowd = mask(slice(0, 1), slice(3, 4))
    segments = Segments.of_masks(mask(slice(1, 4), slice(1, 2))[None], crowd[None])
    patches = patch_overlap(segments, (4, 4), (2, 3), 2)
    assert patches.tolist() == [
        [3, 1, 0], [3, 0, 1], [0, 0, 0],
        [2, 2, 0], [4, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    clusters = cluster_overlap(patches, np.array([[0, 0, 1], [0, 2, 1]]))
    assert clusters.tolist() == [[8, 3, 1], [0, 0, 0], [4, 0, 0]]


@pytest.mark.parametrize('factor', [0.5, 0.75, 1, 1.6, 3])
def test_a_resized_image_puts_pixels_where_the_picture_has_them(factor):
    height, width = 40, 60
    objects = np.zeros((1, height, width), dtype=np.uint8)
    objects[0, : height // 2] = 1
    shape = round(height * factor), round(width * factor)
    grid = -(-shape[0] // 16), -(-shape[1] // 16)
    patches = patch_overlap(Segments.of_masks(objects, objects[:0]), shape, grid)
    assert patches.sum() == height * width
    assert patches[:, 1].sum() == height * width // 2
    for row in range(grid[0]):
        share = patches.reshape(*grid, 3)[row, :, 1].sum()
        if (row + 1) * 16 < shape[0] / 2:
            assert share == patches.reshape(*grid, 3)[row].sum()
        if row * 16 > shape[0] / 2:
            assert share == 0


def test_an_image_larger_than_its_grid_is_refused():
    with pytest.raises(ValueError, match='an image of 33x16 pixels does not fit in a grid of 2x1'):
        patch_overlap(Segments.of_masks(NONE, NONE), (33, 16), (2, 1))
