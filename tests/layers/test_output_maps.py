"""Forms of the output maps agree with their sums spelled out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_atc.layers import coarser_map, feature_map, finest_map, to_map
from mmdet_atc.layers.output_maps import _statistics, output_map_plain

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


@pytest.mark.parametrize('normed', [True, False])
@pytest.mark.parametrize(
    ('scale', 'quads'), [(4, True), (4, False), (2, False), (1, False), (0.5, False)]
)
@pytest.mark.parametrize('with_feature', [True, False])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float16, 1e-2)])
def test_the_triton_form_is_the_plain_one(scale, quads, normed, with_feature, dtype, tolerance):
    from mmdet_atc.layers.triton_output import output_map

    height, width = int(4 * scale), int(6 * scale)
    pyramid = torch.randn(2, height * width + 3, 160).to(dtype)
    base = pyramid[:, : height * width]  # not contiguous
    feature = torch.randn(2, 24, 160).to(dtype)
    quads = torch.randn(2, height * width // 4, 640).to(dtype) if quads else None
    last = nn.BatchNorm2d(160).eval() if normed else None
    if last is not None:
        nn.init.normal_(last.running_mean)
        nn.init.uniform_(last.running_var, 0.5, 2)
        nn.init.normal_(last.weight)
    feature = to_map(feature, (4, 6)) if with_feature else None
    with torch.no_grad():
        statistics = _statistics(last)
        found = output_map(base, (height, width), quads, feature, *statistics)
        base, quads, feature = (x if x is None else x.float() for x in (base, quads, feature))
        expected = output_map_plain(base, (height, width), quads, feature, *statistics)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
