"""The CPU forms of convolutions equal the convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmdet_atc.layers import patch_tokens, to_map, to_tokens
from mmdet_atc.layers.convolutions import (
    pointwise,
    pointwise_by_product,
    pointwise_tokens,
    upsampled_onto,
    upsampled_onto_by_product,
)

CONV, UP = nn.Conv2d(16, 48, 1), nn.ConvTranspose2d(48, 48, 2, 2)


@pytest.mark.parametrize('form', [pointwise, pointwise_by_product])
@pytest.mark.parametrize('channels_last', [True, False])
def test_a_pointwise_convolution(form, channels_last):
    x = torch.randn(2, 16, 8, 12)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    found = form(CONV, x)
    assert found.is_contiguous()
    torch.testing.assert_close(found, CONV(x))


@pytest.mark.parametrize('channels_last', [True, False])
def test_convolutions_to_tokens(channels_last):
    x = torch.randn(2, 16, 8, 12)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    embed = torch.randn(48)
    expected = to_tokens(CONV(x)) + embed
    torch.testing.assert_close(pointwise_tokens(CONV, x, embed), expected)
    patches = nn.Conv2d(16, 5, 4, stride=4)
    torch.testing.assert_close(patch_tokens(patches, x), to_tokens(patches(x)))


@pytest.mark.parametrize('form', [upsampled_onto, upsampled_onto_by_product])
@pytest.mark.parametrize('training', [True, False])
def test_a_transposed_convolution_of_tokens(form, training):
    tokens, finer = torch.randn(2, 4 * 6, 48), torch.randn(2, 48, 8, 12)
    with torch.set_grad_enabled(training):
        expected = UP(to_map(tokens, (4, 6))) + finer
        found = form(UP, tokens, (4, 6), finer.clone())
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected)
