"""Clusters are drawn where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from mmdet_atc.engine import Variant
from mmdet_atc.visualization import (
    ImageClusters,
    draw_cluster_grid,
    draw_clusters,
    draw_padded_image,
    mergings_to_compare,
    predict_clusters,
)

from ..conftest import ROOT


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


def test_outlines_can_be_seen_on_bright_clusters():
    image = np.full((32, 32, 3), 250, dtype=np.uint8)
    picture = draw_clusters(image, np.array([[0, 1], [0, 1]]))
    assert (picture[:, 15] == 0).all()


@pytest.mark.parametrize('cell', [8, 40])
def test_patches_are_drawn_in_any_size(quarters, cell):
    image, labels = quarters
    picture = draw_clusters(image, labels, cell=cell)
    assert picture.shape == (4 * cell, 4 * cell, 3)
    for row in range(4):
        for col in range(4):
            found = picture[int((row + 0.5) * cell), int((col + 0.5) * cell)]
            assert found.tolist() == image[row * 16, col * 16].tolist()
    padded = draw_padded_image(image[:32], (4, 4), cell=cell)
    assert (padded[: 2 * cell, : 2 * cell] == image[0, 0]).all()
    assert set(padded[2 * cell :].reshape(-1).tolist()) == {70, 110}


def test_a_grid_has_a_row_per_merge_and_a_column_per_method(quarters):
    image, labels = quarters
    halves = labels // 2
    columns = {
        'one': ImageClusters(image, (labels, halves), (3, 6)),
        'two': ImageClusters(image, (halves, halves * 0), (3, 6)),
    }
    picture = draw_cluster_grid(columns, cell=80)
    margin, side = 12, 320
    lefts = [margin, 2 * margin + side]
    assert picture.shape[1] == 3 * margin + 2 * side
    # Rows that are blank but for a title separate three tiles: the image and two merges.
    middle = [picture[:, left + side // 4] for left in lefts]
    names_of = dict(labels=labels, halves=halves, all=halves * 0)
    first = {name: draw_clusters(image, part)[5, 5] for name, part in names_of.items()}
    for column, names in zip(middle, (('labels', 'halves'), ('halves', 'all')), strict=True):
        for name in names:
            assert (column == first[name]).all(axis=1).sum() > side // 4, name
    # The image stands above the first method only.
    assert (picture[:side, lefts[1] :] > 0).all()


def test_what_svit_selects_is_one_token_each():
    model = Variant.parse(str(ROOT / 'configs/svit_vit_adapter_t.py')).build(torch.device('cpu'))
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    samples = [DetDataSample(metainfo=dict(img_shape=(64, 96))) for _ in images]
    first, second = predict_clusters(model, dict(inputs=list(images), data_samples=samples))
    inputs = model.data_preprocessor(dict(inputs=list(images)), False)['inputs']
    with torch.no_grad():
        _, selected = model.backbone.forward_with_selection(inputs)
    assert first.blocks == tuple(range(3, 12))
    for image, each in enumerate((first, second)):
        for labels, chosen in zip(each.stages, selected, strict=True):
            assert ((labels > 0) == chosen[image].reshape(4, 6).numpy()).all()
            assert len(np.unique(labels[labels > 0])) == chosen[image].sum()
    count = int(selected[0][1].sum())
    assert second.titles[0] == f'block 4: {count} tokens'
    assert draw_cluster_grid({'SViT': second}).shape[2] == 3


@pytest.mark.parametrize(
    ('plan', 'blocks', 'counts'),
    [
        (dict(type='keep_rate_plan', keep_rate=0.9), (3, 6, 9), (21, 18, 16)),
        (dict(type='constant_plan', t=1), tuple(range(12)), tuple(range(23, 11, -1))),
    ],
)
def test_a_plan_rules_where_no_keep_rate_is_asked_for(plan, blocks, counts):
    config = str(ROOT / 'configs/atc_vit_adapter_micro_shapes.py')
    model = Variant.parse(config).build(torch.device('cpu'))
    own = dict(linkage='average')
    model.backbone.set_merging(own, plan)
    batch = dict(inputs=[torch.randint(256, (3, 64, 96), dtype=torch.uint8)])

    def merged(*asked):
        [(title, merging)] = mergings_to_compare(own, *asked).items()
        (clusters,) = predict_clusters(model, batch, merging)
        return title, clusters.blocks, tuple(stage.max() + 1 for stage in clusters.stages)

    assert merged() == ('ATC average', blocks, counts)
    assert merged(['complete']) == ('ATC complete', blocks, counts)
    assert merged([], [0.5]) == ('ATC average, r = 0.5', (3, 6, 9), (12, 6, 3))
    assert merged() == ('ATC average', blocks, counts)


def test_columns_must_be_of_the_same_image(quarters):
    image, labels = quarters
    one = ImageClusters(image, (labels,), (3,))
    with pytest.raises(ValueError, match="'a' and 'b' are of different images"):
        draw_cluster_grid({'a': one, 'b': ImageClusters(255 - image, (labels,), (3,))})
    with pytest.raises(ValueError, match='merge in different blocks'):
        draw_cluster_grid({'a': one, 'b': ImageClusters(image, (labels,), (6,))})
    with pytest.raises(ValueError, match='nothing to draw'):
        draw_cluster_grid({})


def test_methods_and_keep_rates_make_the_columns():
    own = dict(linkage='complete', keep_rate=0.7, backend='cpu')
    assert mergings_to_compare(own) == {'ATC complete, r = 0.7': None}
    columns = mergings_to_compare(own, ['complete', 'tome'], [0.5, (0.9, 0.7, 0.5)])
    assert list(columns) == [
        'ATC complete, r = 0.5', 'ATC complete, r = 0.9, 0.7, 0.5',
        'ToMe, r = 0.5', 'ToMe, r = 0.9, 0.7, 0.5',
    ]  # fmt: skip
    assert columns['ATC complete, r = 0.5']['backend'] == 'cpu'
    assert columns['ToMe, r = 0.5'] == dict(type='BipartiteMerging', keep_rate=0.5)
    with pytest.raises(ValueError, match='methods must be of single, complete'):
        mergings_to_compare(own, ['ward'])
    with pytest.raises(ValueError, match='the config merges no tokens'):
        mergings_to_compare(None, ['tome'])
