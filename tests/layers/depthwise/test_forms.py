"""The kernels of the depth-wise convolution equal the plain form, forward and gradients.

Where there is no GPU Triton's interpreter runs the kernels (``tests/conftest.py``).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmdet_atc.layers import depthwise_gelu
from mmdet_atc.layers.depthwise import api, plain

from ..forms import BF16, DEVICE, F16, F32, F64, assert_apart, assert_close, drawing

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
from mmdet_atc.layers.depthwise import triton as triton_form

PYRAMID = ((6, 9), (3, 5), (1, 2))
#: Batch, channels, levels, dtype of tokens and of parameters.
TABLE = {
    'f64': (2, 5, PYRAMID, F64, F64),
    'one-level-f64': (1, 33, PYRAMID[:1], F64, F64),
    'one-row-f32': (2, 32, ((1, 7),), F32, F32),
    'f32': (2, 96, PYRAMID, F32, F32),
    'f16': (2, 48, PYRAMID, F16, F32),
    'all-f16': (1, 32, PYRAMID, F16, F16),
    'bf16': (1, 32, PYRAMID, BF16, F32),
}


def inputs(batch, channels, shapes, dtype, of_parameters):
    """Tokens, weight, bias and the gradient of the result."""
    randn = drawing()
    total = sum(height * width for height, width in shapes)
    x, grad = (randn(batch, total, channels).to(dtype) for _ in range(2))
    weight, bias = randn(channels, 1, 3, 3), randn(channels)
    return x, weight.to(of_parameters), bias.to(of_parameters), grad


def flat(shapes) -> list[int]:
    return [side for shape in shapes for side in shape]


def exact(x, weight, bias, grad, shapes) -> list[Tensor]:
    """Result and gradients of the plain form of the same inputs in float64."""
    leaves = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    out = plain.depthwise_gelu(*leaves, shapes)
    out.backward(grad.double())
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize('case', TABLE.values(), ids=TABLE)
def test_the_kernels_equal_the_plain_form(case):
    *_, shapes, dtype, of_parameters = case
    x, weight, bias, grad = inputs(*case)
    out = triton_form.forward(x, weight, bias, flat(shapes))
    found = triton_form.backward(x, weight, bias, grad, flat(shapes))
    assert_apart((out, *found))
    dtypes = dtype, dtype, of_parameters, of_parameters
    assert_close([out, *found], exact(x, weight, bias, grad, shapes), dtypes, F64)


@pytest.mark.parametrize(('tokens', 'channels'), [(8, 64), (16, 4)])
def test_any_block_gives_the_same(tokens, channels):
    x, weight, bias, grad = inputs(1, 12, PYRAMID, F32, F32)
    options = dict(BLOCK_TOKENS=tokens, BLOCK_CHANNELS=channels, num_warps=4)
    out = triton_form.forward(x, weight, bias, flat(PYRAMID), options)
    found = triton_form.backward(x, weight, bias, grad, flat(PYRAMID), options)
    expected = exact(x, weight, bias, grad, PYRAMID)
    assert_close([out, *found], expected, [F32] * 4, F32)


def test_tokens_are_shared_by_any_number_of_programs(monkeypatch):
    x, weight, bias, grad = inputs(1, 12, PYRAMID, F32, F32)
    monkeypatch.setattr(triton_form, '_PROGRAMS', 2)
    found = triton_form.backward(x, weight, bias, grad, flat(PYRAMID))
    assert_close(found, exact(x, weight, bias, grad, PYRAMID)[1:], [F32] * 3, F32)


def test_the_plain_form_is_the_convolution_of_each_level():
    x, weight, bias, _ = inputs(2, 5, PYRAMID, F64, F64)
    conv = torch.nn.Conv2d(5, 5, 3, padding=1, groups=5, dtype=F64, device=DEVICE)
    conv.load_state_dict(dict(weight=weight, bias=bias))
    found, start = depthwise_gelu(x, weight, bias, PYRAMID), 0
    for height, width in PYRAMID:
        part = slice(start, start + height * width)
        grid = x[:, part].transpose(1, 2).reshape(2, 5, height, width)
        expected = torch.nn.functional.gelu(conv(grid)).flatten(2).transpose(1, 2)
        torch.testing.assert_close(found[:, part], expected)
        start += height * width


def test_the_operator_has_a_fake_and_gradients():
    x = torch.empty(2, 71, 8, device='meta', dtype=F16, requires_grad=True)
    weight = torch.empty(8, 1, 3, 3, device='meta', requires_grad=True)
    bias = torch.empty(8, device='meta', requires_grad=True)
    out = api._depthwise_gelu(x, weight, bias, flat(PYRAMID))
    assert (out.shape, out.dtype) == (x.shape, F16)
    out.sum().backward()
    for leaf in (x, weight, bias):
        assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, leaf.dtype)
