"""Padding is clustered apart and costs the picture nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.merging import (
    TOKEN_MERGERS,
    AgglomerativeMerging,
    BipartiteMerging,
    KMedoidsMerging,
    TokenClusters,
    TopKMerging,
    assign_beside_padding,
    constant_plan,
    padded_patches,
)

from ..backbones.micro import MICRO, canonical, micro

CPU = torch.device('cpu')
MERGERS = sorted(
    name
    for name, kind in TOKEN_MERGERS.module_dict.items()
    if kind.__module__.startswith('mmdet_atc.')
)
#: Of pictures in 64x96 pixels.
SIZES = ((64, 96), (48, 64), (32, 96))


def padded_images(sizes=SIZES):
    images = torch.zeros(len(sizes), 3, 64, 96)
    for image, (height, width) in zip(images, sizes):
        image[:, :height, :width] = torch.rand(3, height, width) + 0.1
    return images


def test_patches_without_any_pixel_are_padding():
    sizes = [(64, 96), (33, 95), (32, 80), (1, 1)]
    padding = padded_patches(sizes, (4, 6), 16, CPU).reshape(4, 4, 6)
    expected = torch.zeros(4, 4, 6, dtype=torch.bool)
    expected[1, 3:] = True
    expected[2, 2:] = expected[2, :, 5:] = True
    expected[3] = True
    expected[3, 0, 0] = False
    assert torch.equal(padding, expected)
    assert padded_patches([(49, 81), (64, 96)], (4, 6), 16, CPU) is None


@pytest.mark.parametrize('size', [(0, 96), (65, 96), (64, 97), (-1, 5)])
def test_sizes_that_no_picture_has_are_refused(size):
    with pytest.raises(ValueError, match=r'within \(64, 96\), got \('):
        padded_patches([size], (4, 6), 16, CPU)


def own_clusters(merger, padding, keep_rate):
    return [merger.num_clusters(own, keep_rate) for own in (~padding).sum(1).tolist()]


@pytest.mark.parametrize('merger', [AgglomerativeMerging, BipartiteMerging])
@pytest.mark.parametrize('keep_rate', [0.25, 0.5, 0.9])
def test_the_picture_is_clustered_as_if_it_were_alone(merger, keep_rate):
    merger = merger(keep_rate)
    keys = torch.randn(3, 24, 8)
    padding = torch.zeros(3, 24, dtype=torch.bool)
    padding[1, 18:] = padding[2, ::3] = True
    num_clusters = merger.num_clusters(24, keep_rate)
    kept = own_clusters(merger, padding, keep_rate)
    labels = assign_beside_padding(merger, keys, num_clusters, padding, kept)
    for row, image_keys, padded, own in zip(labels, keys, padding, kept):
        assert set(row.tolist()) == set(range(num_clusters))
        assert not set(row[padded].tolist()) & set(row[~padded].tolist())
        alone = merger.assign(image_keys[~padded][None], own)
        assert torch.equal(canonical(row[~padded][None]), canonical(alone))


@pytest.mark.parametrize('merger', [KMedoidsMerging, TopKMerging])
def test_attention_is_that_of_the_pictures_tokens(merger):
    merger = merger(0.5)
    keys, attention = torch.randn(2, 24, 8), torch.rand(2, 24)
    padding = torch.zeros(2, 24, dtype=torch.bool)
    padding[1, ::3] = True
    labels = assign_beside_padding(merger, keys, 12, padding, (12, 8), attention)
    shown = ~padding[1]
    alone = merger.assign(keys[1:, shown], 8, attention[1:, shown])
    assert torch.equal(labels[1:, shown], alone)
    assert torch.equal(labels[:1], merger.assign(keys[:1], 12, attention[:1]))


@pytest.mark.parametrize('num_tokens', range(1, 12))
@pytest.mark.parametrize('keep_rate', [0.1, 0.5, 0.7, 1.0])
@pytest.mark.parametrize('merger', [AgglomerativeMerging, BipartiteMerging])
def test_every_label_is_used_whatever_the_numbers(merger, keep_rate, num_tokens):
    merger = merger(keep_rate)
    keys = torch.randn(1, num_tokens, 4)
    for num_padded in range(num_tokens):
        padding = (torch.arange(num_tokens) >= num_tokens - num_padded)[None]
        num_clusters = merger.num_clusters(num_tokens, keep_rate)
        kept = own_clusters(merger, padding, keep_rate)
        labels = assign_beside_padding(merger, keys, num_clusters, padding, kept)
        assert set(labels[0].tolist()) == set(range(num_clusters))


@pytest.mark.parametrize('with_padding', [False, True])
def test_merging_by_a_keep_rate_is_merging_to_the_number_that_it_says(with_padding):
    merger = AgglomerativeMerging(0.7)
    tokens, keys = torch.randn(3, 24, 4), torch.randn(3, 24, 8)
    clusters = TokenClusters.identity(3, 24, CPU)
    padding = padded_patches(SIZES, (4, 6), 16, CPU) if with_padding else None
    beside = (padding, own_clusters(merger, padding, 0.7)) if with_padding else None
    by_rate, rates = merger.merge(tokens, keys, clusters, 0.7, padding=padding)
    by_number, numbers = merger.merge_to(tokens, keys, clusters, 16, beside=beside)
    assert torch.equal(rates.labels, numbers.labels)
    assert torch.equal(by_rate, by_number)
    assert by_rate.shape == (3, 16, 4)
    if with_padding:
        for labels, padded in zip(rates.labels, padding):
            assert not set(labels[padded].tolist()) & set(labels[~padded].tolist())


@torch.no_grad()
def stages_of(model, images, sizes=None):
    return model.forward_with_clusters(images, sizes)[1]


@pytest.mark.parametrize('kind', MERGERS)
def test_in_the_backbone_no_cluster_mixes_and_the_picture_keeps_its_share(kind):
    model = micro(dict(type=kind, keep_rate=0.7), padding_aware=True).eval()
    padding = padded_patches(SIZES, (4, 6), 16, CPU)
    expected = (~padding).sum(1).tolist()
    for stage in stages_of(model, padded_images(), SIZES):
        expected = [model.merger.num_clusters(kept, 0.7) for kept in expected]
        for labels, padded, kept in zip(stage.labels, padding, expected):
            # EViT's fused token comes on top.
            assert len(labels[~padded].unique()) == kept + (kind == 'EViTMerging')
            assert not set(labels[padded].tolist()) & set(labels[~padded].tolist())


def test_a_plans_tokens_go_from_the_picture_as_if_it_were_alone():
    model = micro({}, padding_aware=True, plan=constant_plan(3)).eval()
    padding = padded_patches(SIZES, (4, 6), 16, CPU)
    own = (~padding).sum(1)
    for block, stage in enumerate(stages_of(model, padded_images(), SIZES)):
        for labels, padded, tokens in zip(stage.labels, padding, own.tolist()):
            assert len(labels[~padded].unique()) == max(tokens - 3 * (block + 1), 1)


def test_without_the_option_padding_is_clustered_as_in_the_paper():
    images = padded_images()
    plain = micro(dict(keep_rate=0.5)).eval()
    assert not plain.padding_aware
    known, unknown = stages_of(plain, images, SIZES), stages_of(plain, images)
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(known, unknown))
    padding = padded_patches(SIZES, (4, 6), 16, CPU)
    labels = known[0].labels
    mixed = [set(la[p].tolist()) & set(la[~p].tolist()) for la, p in zip(labels, padding)]
    kept = [len(la[~p].unique()) for la, p in zip(labels, padding)]
    assert any(mixed) or kept != [12, 6, 6]


@pytest.mark.parametrize('sizes', [None, [(64, 96)] * 2, [(50, 81)] * 2])
def test_without_padding_the_option_changes_nothing(sizes):
    image = torch.rand(2, 3, 64, 96) + 0.1
    model = micro(dict(keep_rate=0.5), padding_aware=True).eval()
    reference = micro(dict(keep_rate=0.5)).eval()
    with torch.no_grad():
        for out, expected in zip(model(image, sizes), reference(image)):
            torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('padding_aware', [False, True])
@pytest.mark.parametrize('own', [(64, 96), (48, 64)])
@pytest.mark.parametrize('kind', MERGERS)
def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(kind, own, padding_aware):
    """Of the same padded size."""
    model = micro(dict(type=kind, keep_rate=0.5), padding_aware=padding_aware).eval()
    image = padded_images([own])
    with torch.no_grad():
        alone = model(image, [own])
        for size in ((64, 96), (16, 16)):
            images = torch.cat([padded_images([size]), image])
            for out, expected in zip(model(images, [size, own]), alone):
                torch.testing.assert_close(out[1:], expected, rtol=1e-4, atol=1e-5)


class Detector(nn.Module):
    """What a detector is to its backbone."""

    def __init__(self, **kwargs):
        super().__init__()
        self.backbone = micro(dict(keep_rate=0.7), **kwargs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'fail':
            raise RuntimeError('out of memory')
        return self.backbone(inputs)


def test_of_windows_of_images_padding_is_not_known():
    detector = Detector(padding_aware=True).eval()
    detector.forward = lambda inputs, samples: detector.backbone(inputs[..., 32:])
    images = padded_images()
    with torch.no_grad():
        found, expected = detector(images, SAMPLES), detector.backbone(images[..., 32:])
    assert all(map(torch.equal, found, expected))


SAMPLES = [BaseDataElement(metainfo=dict(img_shape=size)) for size in SIZES]


@pytest.mark.parametrize('copied', [False, True])
def test_a_detectors_samples_tell_its_backbone_for_one_call(copied):
    detector = Detector(padding_aware=True).eval()
    detector = copy.deepcopy(detector) if copied else detector
    images = padded_images()
    with torch.no_grad():
        expected, unknown = detector.backbone(images, SIZES), detector.backbone(images)
        assert not torch.equal(expected[2], unknown[2])
        for outputs in (detector(images, SAMPLES), detector(inputs=images, data_samples=SAMPLES)):
            assert all(map(torch.equal, outputs, expected))
        for call in (
            lambda: detector.backbone(images),
            lambda: detector(images),
            lambda: detector(images, [BaseDataElement()] * 3),
        ):
            assert all(map(torch.equal, call(), unknown))


def test_a_call_that_fails_leaves_no_sizes_behind():
    detector = Detector(padding_aware=True)
    with pytest.raises(RuntimeError, match='out of memory'):
        detector(padded_images(), SAMPLES, mode='fail')
    assert detector.backbone.valid_sizes_of_call is None


def test_sizes_are_one_per_image():
    model = micro(dict(keep_rate=0.5), padding_aware=True)
    with pytest.raises(ValueError, match=r'one size per image \(3\), got 1'):
        model(padded_images(), [(64, 96)])


def test_the_old_place_works_and_says_where_the_new_one_is():
    merging = dict(type='BipartiteMerging', keep_rate=0.7, padding_aware=True)
    with pytest.warns(FutureWarning, match=r'write backbone\.padding_aware=True'):
        model = ATCViTAdapter(merging=merging, **MICRO)
    assert model.padding_aware
    assert merging['padding_aware']  # a config is not written to


@pytest.mark.parametrize('old', [True, False])
def test_padding_aware_is_a_bool(old):
    merging, option = dict(keep_rate=0.5), dict(padding_aware='yes')
    with pytest.raises(ValueError, match="padding_aware must be True or False, got 'yes'"):
        micro(merging | option) if old else micro(merging, **option)
