"""Clusters are drawn where they are."""

from __future__ import annotations

import numpy as np
import pytest

from mmdet_atc.visualization import draw_cluster_stages, draw_clusters


@pytest.fixture
def quarters():
    """An image of four plain quarters, and the clusters that they are."""
    colours = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [90, 90, 90]]], dtype=np.uint8)
    image = colours.repeat(32, axis=0).repeat(32, axis=1)
    labels = np.array([[0, 1], [2, 3]]).repeat(2, axis=0).repeat(2, axis=1)
    return image, labels


def test_plain_regions_keep_their_colour_and_are_outlined(quarters):
    image, labels = quarters
    picture = draw_clusters(image, labels)
    outline = np.zeros((64, 64), dtype=bool)
    outline[:, 31] = outline[31] = True
    assert (picture[outline] == 255).all()
    assert (picture[~outline] == image[~outline]).all()


def test_a_cluster_has_the_mean_colour_of_its_parts(quarters):
    image, labels = quarters
    labels = np.where(labels == 3, 0, labels)  # red and grey corners are one cluster
    picture = draw_clusters(image, labels)
    assert picture[5, 5].tolist() == picture[60, 60].tolist() == [145, 45, 45]


def test_padding_is_shown_as_such_and_counts_for_nothing(quarters):
    image, labels = quarters
    picture = draw_clusters(image[:50, :40], np.zeros_like(labels))
    mean = image[:50, :40].reshape(-1, 3).mean(0).round()
    assert (picture[:50, :40] == mean).all()
    padding = np.concatenate([picture[50:].reshape(-1, 3), picture[:50, 40:].reshape(-1, 3)])
    assert {tuple(pixel) for pixel in padding.tolist()} == {(70, 70, 70), (110, 110, 110)}


def test_an_image_larger_than_its_grid_is_refused(quarters):
    image, labels = quarters
    with pytest.raises(ValueError, match='an image of 64x64 pixels does not fit in a grid of 2x4'):
        draw_clusters(image, labels[:2])


def test_stages_stand_side_by_side(quarters):
    image, labels = quarters
    picture = draw_cluster_stages(image, [labels, labels // 2], ['first', 'second'])
    # Enlarged 5 times to 320 pixels; a title line above and 8 pixels between.
    line = picture.shape[0] - 320
    assert picture.shape[1] == 3 * 320 + 2 * 8
    assert 20 <= line <= 40
    assert (picture[line + 20, 20] == image[0, 0]).all()
    assert (picture[line + 20, 328 + 20] == image[0, 0]).all()
    assert (picture[:, 320:328] == 255).all()
    assert (picture[:line, 328:648] < 128).any()  # a title is there


def test_titles_and_stages_must_match(quarters):
    image, labels = quarters
    with pytest.raises(ValueError, match='one title per stage'):
        draw_cluster_stages(image, [labels], [])
