"""The kernels of the output maps equal the plain form, forward and gradients.

Where there is no GPU Triton's interpreter runs the kernels (``tests/conftest.py``).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_atc.layers import resized_sum
from mmdet_atc.layers.resize import api, plain

from ..forms import BF16, F16, F32, F64, assert_close, drawing, in_double

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
from mmdet_atc.layers.resize import triton as triton_form

EPS = 1e-5
#: Batch, channels, shape of the map, of the feature or None; with quads; with a norm; dtypes of the
#: map, the feature and the result.
TABLE = {
    'four-times-f64': (2, 5, (8, 12), (2, 3), True, True, F64, F64, F64),
    'twice-f64': (2, 8, (4, 6), (2, 3), False, False, F64, F64, F64),
    'once-f64': (1, 33, (2, 3), (2, 3), False, True, F64, F64, F64),
    'half-f64': (1, 8, (2, 3), (4, 6), False, True, F64, F64, F64),
    'one-row-f32': (1, 64, (4, 8), (1, 2), True, False, F32, F32, F32),
    'no-feature-f32': (2, 16, (4, 6), None, True, True, F32, F32, F32),
    'four-times-f16': (1, 96, (8, 12), (2, 3), True, True, F16, F32, F16),
    'half-f16': (2, 64, (2, 3), (4, 6), False, False, F32, F16, F16),
    'bf16': (1, 32, (4, 6), (2, 3), False, True, BF16, BF16, BF16),
}


def inputs(batch, channels, shape, grid, has_quads, has_norm, dtype, of_feature, of_result):
    """Map, feature, quads, norm and the gradient of the result."""
    randn = drawing()
    height, width = shape
    # Part of a larger pyramid: images lie apart.
    base = randn(batch, height * width + 3, channels).to(dtype)[:, 2:-1]
    feature = None if grid is None else randn(batch, grid[0] * grid[1], channels).to(of_feature)
    quads = randn(batch, height * width // 4, 4 * channels).to(dtype) if has_quads else None
    full = torch.promote_types(dtype, F32)
    parts = (randn(channels), randn(channels), randn(channels), randn(channels).square())
    norm = (*(part.to(full) for part in parts), EPS) if has_norm else None
    return base, feature, quads, norm, randn(batch, height * width, channels).to(of_result)


@pytest.mark.parametrize('case', TABLE.values(), ids=TABLE)
def test_the_kernel_equals_the_plain_form(case):
    _, _, shape, grid, *_, of_result = case
    base, feature, quads, norm, _ = inputs(*case)
    parts = None if norm is None else norm[:4]
    grid = grid or (1, 1)
    found = triton_form.forward(base, feature, shape, grid, quads, parts, EPS, of_result)
    exact = None if norm is None else (*in_double(parts), EPS)
    base, feature, quads = in_double((base, feature, quads))
    expected = plain.resized_sum(base, feature, shape, grid, quads, exact)
    assert_close([found], [expected], [of_result])


@pytest.mark.parametrize('name', [name for name in TABLE if TABLE[name][3]])
def test_the_gradient_of_the_feature_equals_the_plain_form(name):
    case = TABLE[name]
    _, _, shape, grid, _, _, _, of_feature, _ = case
    base, feature, *_, grad = inputs(*case)
    leaf = feature.double().requires_grad_()
    plain.resized_sum(base.double(), leaf, shape, grid).backward(grad.double())
    found = triton_form.backward(grad, shape, grid, of_feature)
    assert_close([found], [leaf.grad], [of_feature])


@pytest.mark.parametrize(('pixels', 'channels'), [(4, 128), (64, 16)])
def test_any_block_gives_the_same(pixels, channels):
    case = (1, 20, (8, 12), (2, 3), True, True, F32, F32, F32)
    base, feature, quads, norm, grad = inputs(*case)
    tensors = base, feature, (8, 12), (2, 3), quads, norm[:4], EPS, F32
    options = dict(BLOCK_PIXELS=pixels, BLOCK_CHANNELS=channels, num_warps=4)
    found = [triton_form.forward(*tensors, options)]
    assert_close(found, [triton_form.forward(*tensors)], [F32])
    tensors = grad, (8, 12), (2, 3), F32
    found = [triton_form.backward(*tensors, options)]
    assert_close(found, [triton_form.backward(*tensors)], [F32])


def test_the_plain_form_is_what_the_model_says():
    """Transposed convolution, resized feature, batch norm."""
    torch.manual_seed(0)
    up, norm = nn.ConvTranspose2d(6, 6, 2, 2), nn.BatchNorm2d(6).eval()
    nn.init.normal_(norm.weight), norm.running_mean.normal_(), norm.running_var.uniform_(1, 2)
    level, finest, feature = (
        torch.randn(2, 6, 4, 6),
        torch.randn(2, 6, 8, 12),
        torch.randn(2, 6, 2, 3),
    )
    resized = F.interpolate(feature, scale_factor=4, mode='bilinear', align_corners=False)
    expected = norm(up(level) + finest + resized)

    def tokens(grid: Tensor) -> Tensor:
        return grid.flatten(2).transpose(1, 2)

    weight = up.weight.permute(2, 3, 1, 0).flatten(0, 2)
    quads = F.linear(tokens(level), weight, up.bias.repeat(4))
    parts = norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
    found = resized_sum(tokens(finest), tokens(feature), (8, 12), (2, 3), quads, parts)
    torch.testing.assert_close(found, tokens(expected))


def test_the_operator_has_a_fake_and_gradients():
    base = torch.empty(2, 96, 8, device='meta', dtype=F16, requires_grad=True)
    feature = torch.empty(2, 6, 8, device='meta', requires_grad=True)
    quads = torch.empty(2, 24, 32, device='meta', dtype=F16, requires_grad=True)
    out = api._resized_sum(base, feature, [8, 12], [2, 3], quads, None, 0.0, F16)
    assert (out.shape, out.dtype) == (base.shape, F16)
    out.sum().backward()
    for leaf in (base, feature, quads):
        assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, leaf.dtype)


def test_the_gradients_of_the_rest_equal_the_plain_form():
    """The formula of the operator, with the feature's part left out: that has a kernel."""
    case = (2, 5, (8, 12), None, True, False, F64, F64, F64)
    base, _, quads, _, grad = inputs(*case)
    leaves = [x.clone().requires_grad_() for x in (base, quads)]
    plain.resized_sum(leaves[0], None, (8, 12), (1, 1), leaves[1]).backward(grad)
    context = type('Context', (), dict(shape=[8, 12], grid=[1, 1], dtypes=[F64, None, F64]))
    of_base, *_, of_quads, _, _, _ = api._gradients(context, grad)
    assert torch.equal(of_base, leaves[0].grad)
    assert torch.equal(of_quads, leaves[1].grad)
