"""The dense backbone."""

from __future__ import annotations

import weakref

import pytest
import torch

from mmdet_atc.backbones import ViTAdapter

from .micro import MICRO, micro


def test_four_maps_at_strides_4_8_16_32():
    features = micro().eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (2, 48, 16, 24),
        (2, 48, 8, 12),
        (2, 48, 4, 6),
        (2, 48, 2, 3),
    ]


def test_only_the_maps_asked_for_are_made_and_are_the_same():
    image = torch.randn(1, 3, 64, 96)
    four = micro().eval()(image)
    for indices in ((1, 2, 3), (0, 3), (2,)):
        some = micro(out_indices=indices).eval()(image)
        assert len(some) == len(indices)
        for index, found in zip(indices, some):
            torch.testing.assert_close(found, four[index], rtol=0, atol=0)


@pytest.mark.parametrize('shape', [(64, 95), (33, 64), (31, 32), (0, 32)])
def test_input_not_a_multiple_of_32_is_refused(shape):
    with pytest.raises(ValueError, match=rf'multiples of 32, got {shape[0]}x{shape[1]}'):
        micro()(torch.zeros(1, 3, *shape))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(patch_size=14), 'patch_size must be 16'),
        (dict(img_size=384), 'img_size and pretrain_size must be the same'),
        (dict(num_heads=5), 'num_heads must divide'),
        (dict(deform_num_heads=5), 'deform_num_heads must divide'),
        (dict(drop_path_rate=1.0), 'drop_path_rate must be in'),
        (dict(interaction_indexes=[[0, 2], [3, 5]]), 'interaction_indexes must cover blocks 0..11'),
        (dict(interaction_indexes=[[0, 6], [6, 11]]), 'interaction_indexes must cover'),
        (dict(window_attn=[True, False]), 'window_attn must be one value or one per block'),
        (
            dict(window_attn=True, window_size=[14]),
            'window_size must be one value or one per block',
        ),
        (dict(window_attn=True, window_size=0), 'window_size must be a positive integer'),
        (dict(window_attn=True, window_size=None), 'window_size must be a positive integer'),
        (dict(window_size=True), 'window_size must be a positive integer, got True'),
        (
            dict(vit_features='each', interaction_indexes=[[0, 5], [6, 11]]),
            "vit_features='each' takes four interactions",
        ),
        (dict(with_cp='no'), "with_cp must be True or False, got 'no'"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ViTAdapter(**{**MICRO, **kwargs})


def test_one_window_over_the_whole_grid_is_global_attention():
    image = torch.randn(1, 3, 64, 64)
    dense = micro().eval()
    windowed = micro(window_attn=True, window_size=4).eval()
    windowed.load_state_dict(dense.state_dict())
    with torch.no_grad():
        for a, b in zip(dense(image), windowed(image)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_windows_matter_where_they_are_smaller():
    image = torch.randn(1, 3, 64, 96)
    dense = micro().eval()
    windowed = micro(window_attn=[True, True, False] * 4, window_size=[2, 2, None] * 4).eval()
    windowed.load_state_dict(dense.state_dict())
    with torch.no_grad():
        assert not torch.allclose(dense(image)[2], windowed(image)[2], atol=1e-3)


def test_a_size_seen_in_inference_mode_can_be_trained_on():
    model, image = micro().eval(), torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        expected = model(image)
    features = model(image)
    sum(f.sum() for f in features).backward()
    assert model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    for feature, reference in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, reference)


def test_where_memory_peaks_nothing_is_held_that_was_used_up(monkeypatch):
    model = micro().eval()
    used_up: dict[str, weakref.ref] = {}
    spatial_prior, finest_output = model.spm.forward, model._finest_output
    alive = None

    def prior(image):
        maps = spatial_prior(image)
        used_up.update(zip(('stem', 'c2', 'c3', 'c4'), map(weakref.ref, maps), strict=True))
        return maps

    def at_peak(*args):
        nonlocal alive
        alive = [name for name, reference in used_up.items() if reference() is not None]
        return finest_output(*args)

    monkeypatch.setattr(model.spm, 'forward', prior)
    monkeypatch.setattr(model, '_finest_output', at_peak)
    with torch.inference_mode():
        model(torch.randn(1, 3, 64, 96))
    assert alive == ['stem']
    assert used_up['stem']() is None


def test_classifier_keys_are_dropped_without_a_word():
    model = micro()
    state = model.state_dict()
    extra = dict(cls_token=torch.zeros(1, 1, 48), **{'head.weight': torch.zeros(80, 48)})
    assert model.load_state_dict({**state, **extra}, strict=True)
    with pytest.raises(RuntimeError, match='something_else'):
        model.load_state_dict({**state, 'something_else': torch.zeros(1)}, strict=True)


def test_stochastic_depth_drops_only_in_training():
    model = micro(drop_path_rate=0.5)
    image = torch.randn(1, 3, 64, 64)
    model.eval()
    assert torch.equal(model(image)[3], model(image)[3])
    assert [round(getattr(b.drop_path, 'drop_prob', 0.0), 3) for b in model.blocks][::11] == [
        0,
        0.5,
    ]
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()
    for module in model.modules():
        if type(module).__name__ == 'DropPath':
            module.train()
    assert not torch.equal(model(image)[3], model(image)[3])
