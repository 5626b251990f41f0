"""The kernels of layer norm equal the plain form over one table, forward and gradients.

Where there is no GPU Triton's interpreter runs the kernels (``tests/conftest.py``).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_atc.layers import add_layer_norm, layer_norm
from mmdet_atc.layers.norm import api, plain

from ..forms import BF16, DEVICE, F16, F32, F64, assert_apart, assert_close, drawing, in_double

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
from mmdet_atc.layers.norm import triton as triton_form

EPS = 1e-6
#: Shape; dtypes of the stream, the branch and the norm; with a scale; with stochastic depth.
TABLE = {
    'f64': ((2, 5, 48), F64, F64, F64, False, False),
    'scaled-f64': ((2, 5, 33), F64, F64, F64, True, False),
    'dropped-f64': ((3, 3, 16), F64, F64, F64, False, True),
    'scaled-dropped-f32': ((3, 3, 192), F32, F32, F32, True, True),
    'one-row-f32': ((1, 1, 384), F32, F32, F32, True, False),
    'half-branch': ((2, 4, 384), F32, F16, F16, True, True),
    'half-stream': ((2, 3, 192), F16, F16, F16, True, True),
    'bf16': ((2, 3, 768), BF16, BF16, BF16, False, True),
}


def inputs(shape, stream, of_branch, of_norm, scaled, dropped):
    """Arguments of ``add_layer_norm`` but the last two, and gradients of its results."""
    randn = drawing()
    parameters = F64 if stream == F64 else F32
    scale = randn(shape[2]).to(parameters) if scaled else None
    keep = torch.arange(shape[0], device=DEVICE).to(parameters) if dropped else None
    x = (3 + randn(*shape)).to(stream)
    weight, bias = (randn(shape[2]).to(parameters) for _ in range(2))
    arguments = x, randn(*shape).to(of_branch), scale, keep, weight, bias
    return arguments, (randn(*shape).to(stream), randn(*shape).to(of_norm))


def with_gradients(form, arguments, grads, *rest) -> list[Tensor | None]:
    """Results and gradients of all arguments but ``keep``, None where there is no argument."""
    leaves = [x if x is None else x.detach().clone().requires_grad_() for x in arguments]
    if len(leaves) > 3 and leaves[3] is not None:
        leaves[3] = arguments[3]
    out = form(*leaves, *rest)
    out = out if isinstance(out, tuple) else (out,)
    torch.autograd.backward(out, grads)
    return [*(x.detach() for x in out), *(x if x is None else x.grad for x in leaves)]


@pytest.mark.parametrize('case', TABLE.values(), ids=TABLE)
def test_the_kernels_equal_the_plain_form(case):
    _, stream, of_branch, of_norm, *_ = case
    arguments, grads = inputs(*case)
    _, branch, scale, keep, weight, _ = arguments
    total, out = triton_form.forward(*arguments, EPS, of_norm)
    found = triton_form.backward(*(total, branch, scale, keep, weight, EPS, *grads, of_branch))
    assert_apart((out, *found))
    *of_inputs, rows = found
    of_weight, of_bias, *of_scale = rows
    found = [*of_inputs, *(of_scale or [None]), of_weight, of_bias]
    expected = with_gradients(plain.add_layer_norm, in_double(arguments), in_double(grads), EPS)
    del expected[5]  # of keep
    parameters = F64 if stream == F64 else F32
    dtypes = stream, of_norm, stream, of_branch, parameters, parameters, parameters
    assert_close([total, out, *found], expected, dtypes)


@pytest.mark.parametrize('case', TABLE.values(), ids=TABLE)
def test_without_a_branch(case):
    _, stream, _, of_norm, *_ = case
    arguments, (_, grad) = inputs(*case)
    x, *_, weight, bias = arguments
    _, out = triton_form.forward(x, None, None, None, weight, bias, EPS, of_norm)
    found = triton_form.backward(x, None, None, None, weight, EPS, None, grad, None)
    expected = with_gradients(plain.layer_norm, in_double((x, weight, bias)), (grad.double(),), EPS)
    dtypes = of_norm, stream, weight.dtype, weight.dtype
    assert_close([out, found[0], *found[2]], expected, dtypes)


@pytest.mark.parametrize('rows', [1, 8])
def test_any_block_of_rows_gives_the_same(rows):
    arguments, grads = inputs(*TABLE['scaled-dropped-f32'])
    options = dict(BLOCK_ROWS=rows, num_warps=4)
    total, out = triton_form.forward(*arguments, EPS, F32, options)
    assert_close(triton_form.forward(*arguments, EPS, F32), (total, out), [F32] * 2)
    rest = (*arguments[1:5], EPS, *grads, F32)
    found = triton_form.backward(total, *rest, options)
    assert_close(triton_form.backward(total, *rest), found, [F32] * 3)


def test_rows_are_shared_by_any_number_of_programs(monkeypatch):
    arguments, grads = inputs((2, 9, 16), F32, F32, F32, True, True)
    total, _ = triton_form.forward(*arguments, EPS, F32)
    rest = (*arguments[1:5], EPS, *grads, F32)
    expected = triton_form.backward(total, *rest)
    monkeypatch.setattr(triton_form, '_PROGRAMS', 2)
    assert_close(triton_form.backward(total, *rest), expected, [F32] * 3)


def test_the_plain_form_is_torch_s():
    (x, branch, scale, keep, weight, bias), _ = inputs(*TABLE['scaled-dropped-f32'])
    total, out = add_layer_norm(x, branch, scale, keep, weight, bias, EPS)
    expected = x + branch * scale * keep[:, None, None]
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(out, F.layer_norm(total, weight.shape, weight, bias, EPS))
    torch.testing.assert_close(layer_norm(total, weight, bias, EPS), out)


def test_under_autocast_products_get_what_they_want():
    (x, branch, *_, weight, bias), _ = inputs(*TABLE['half-branch'])
    with torch.autocast(DEVICE, BF16):
        total, out = add_layer_norm(x, branch, None, None, weight, bias, EPS)
        assert (total.dtype, out.dtype) == (F32, BF16)
        assert layer_norm(x, weight, bias, EPS, F32).dtype == F32


@pytest.mark.parametrize('scaled', [True, False])
def test_the_operators_have_fakes_and_gradients(scaled):
    x = torch.empty(2, 3, 8, device='meta', requires_grad=True)
    branch = torch.empty(2, 3, 8, device='meta', dtype=F16, requires_grad=True)
    scale, weight, bias = (torch.empty(8, device='meta', requires_grad=True) for _ in range(3))
    scale = scale if scaled else None
    keep = torch.empty(2, device='meta')
    total, out = api._add_layer_norm(x, branch, scale, keep, weight, bias, EPS, F16)
    assert (total.dtype, out.dtype) == (F32, F16)
    second = api._layer_norm(total, weight, bias, EPS, BF16)
    assert second.dtype == BF16
    (total.sum() + out.sum() + second.sum()).backward()
    for leaf in (x, branch, weight, bias, *([scale] if scaled else [])):
        assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, leaf.dtype)
