"""Forms of the output maps agree with their sums spelled out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_atc.layers import coarser_map, feature_map, finest_map, output_maps, to_map

C = 24


def norm():
    norm = nn.BatchNorm2d(C).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


@pytest.mark.parametrize('with_feature', [True, False])
def test_the_map_of_stride_4(with_feature):
    conv, up, last = nn.Conv2d(16, C, 1), nn.ConvTranspose2d(C, C, 2, 2), norm()
    stem, level, patches = torch.randn(2, 16, 8, 12), torch.randn(2, 24, C), torch.randn(2, 6, C)
    expected = conv(stem) + up(to_map(level, (4, 6)))
    feature = feature_map(patches, (2, 3)) if with_feature else None
    if with_feature:
        expected = expected + F.interpolate(feature, scale_factor=4, mode='bilinear')
    with torch.no_grad():
        found = finest_map([stem], conv, up, level, (4, 6), feature, last)
    torch.testing.assert_close(found, last(expected))


@pytest.mark.parametrize('scale', [2, 1, 0.5])
def test_maps_of_strides_8_to_32(scale):
    shape = int(4 * scale), int(6 * scale)
    level, patches, last = torch.randn(2, shape[0] * shape[1], C), torch.randn(2, 24, C), norm()
    feature = feature_map(patches, (4, 6))
    resized = F.interpolate(feature, scale_factor=scale, mode='bilinear')
    with torch.no_grad():
        found = coarser_map(level, shape, feature.clone(), last)
    torch.testing.assert_close(found, last(to_map(level, shape) + resized))


@pytest.mark.parametrize('norm', [norm, lambda: nn.GroupNorm(2, C)])
@pytest.mark.parametrize('with_feature', [True, False])
def test_in_one_pass_they_are_the_same(norm, with_feature, monkeypatch):
    conv, up, last = nn.Conv2d(16, C, 1), nn.ConvTranspose2d(C, C, 2, 2), norm()
    stem, pyramid = torch.randn(2, 16, 8, 12), torch.randn(2, 30, C)
    level, coarser, patches = pyramid[:, :24], pyramid[:, 24:], torch.randn(2, 6, C)
    found = []
    for in_one_pass in (False, True):
        monkeypatch.setattr(output_maps, '_is_one_pass', lambda level, one=in_one_pass: one)
        feature = feature_map(patches, (2, 3)) if with_feature else None
        with torch.no_grad():
            found.append(
                [
                    finest_map([stem], conv, up, level, (4, 6), feature, last),
                    coarser_map(coarser, (2, 3), feature, last),
                ]
            )
    for plain, one_pass in zip(*found, strict=True):
        torch.testing.assert_close(one_pass, plain)


@pytest.mark.parametrize('training', [True, False])
def test_in_one_pass_they_have_the_same_gradients(training, monkeypatch):
    conv, up, last = nn.Conv2d(16, C, 1), nn.ConvTranspose2d(C, C, 2, 2), norm().train(training)
    inputs = [torch.randn(2, 16, 8, 12), torch.randn(2, 24, C), torch.randn(2, 6, C)]
    inputs = [x.requires_grad_() for x in inputs]
    parameters = [*inputs, *conv.parameters(), *up.parameters(), *last.parameters()]
    gradients = []
    for in_one_pass in (False, True):
        monkeypatch.setattr(output_maps, '_is_one_pass', lambda level, one=in_one_pass: one)
        stem, level, patches = inputs
        out = finest_map([stem], conv, up, level, (4, 6), feature_map(patches, (2, 3)), last)
        gradients.append(torch.autograd.grad(out.sin().sum(), parameters))
    for plain, one_pass in zip(*gradients, strict=True):
        torch.testing.assert_close(one_pass, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('compiled', [True, False])
def test_a_compiled_roi_align_gets_channels_first(compiled, monkeypatch):
    monkeypatch.setattr(output_maps, '_is_one_pass', lambda level: True)
    monkeypatch.setattr(output_maps, 'resized_sum', lambda base, *_: base)  # as on a GPU
    monkeypatch.setattr(output_maps, '_are_channels_read_first', lambda: compiled)
    with torch.no_grad():
        level = torch.randn(2, 24, C, dtype=torch.bfloat16)
        out = coarser_map(level, (4, 6), None, norm())
    assert out.is_contiguous() == compiled
    assert out.is_contiguous(memory_format=torch.channels_last) != compiled
