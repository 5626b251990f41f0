"""Operators of our own: the same called as functions and through torch, which sees them there."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from mmdet_atc.native import operator
from mmdet_atc.studies.speed.launches import Launches

calls: list[str] = []


@operator('mmdet_atc_test::scaled', '(Tensor x, float by, Tensor? shift) -> Tensor')
def scaled(x, by, shift):
    calls.append('any')
    return x * by if shift is None else x * by + shift


@scaled.register_fake
def _(x, by, shift):
    return torch.empty_like(x)


def _setup(ctx, inputs, output) -> None:
    _, ctx.by, shift = inputs
    ctx.has_shift = shift is not None


def _gradients(ctx, grad):
    return grad * ctx.by, None, grad.clone() if ctx.has_shift else None


scaled.register_autograd(_gradients, setup_context=_setup)


@operator('mmdet_atc_test::halved', '(Tensor x) -> Tensor', device='cuda')
def halved(x):
    return x / 2


@halved.register_kernel('cpu')
def _(x):
    return x * 0.5


def through_torch(x, by, shift):
    return torch.ops.mmdet_atc_test.scaled(x, by, shift)


@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('call', [scaled, through_torch], ids=['function', 'torch'])
def test_results_and_gradients(call, shift):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    added = torch.randn(3, 4, dtype=torch.float64, requires_grad=True) if shift else None
    out = call(x, 3.0, added)
    torch.testing.assert_close(out, 3 * x + (added if shift else 0))
    out.square().sum().backward()
    torch.testing.assert_close(x.grad, 6 * out.detach())
    if added is not None:
        torch.testing.assert_close(added.grad, 2 * out.detach())
    with torch.no_grad():
        assert not call(x, 3.0, added).requires_grad
    assert not call(x.detach(), 3.0, None).requires_grad


def test_a_gradient_of_what_asks_for_it_alone():
    x, shift = torch.ones(2), torch.ones(2, requires_grad=True)
    scaled(x, 2.0, shift).sum().backward()
    assert shift.grad.tolist() == [1, 1]
    assert x.grad is None


def test_the_kernel_of_the_device_is_called():
    assert halved(torch.ones(2)).tolist() == [0.5, 0.5]
    assert torch.ops.mmdet_atc_test.halved(torch.ones(2)).tolist() == [0.5, 0.5]


def test_what_counts_operations_sees_it():
    with Launches() as launches:
        scaled(torch.ones(2), 2.0, None)
    assert launches.counts['scaled'] == 1


def test_tensors_without_numbers_are_not_computed_with():
    with FakeTensorMode() as mode:
        x = mode.from_tensor(torch.ones(2))
    calls.clear()
    assert scaled(x, 2.0, None).shape == (2,)
    assert not calls


def test_it_is_a_node_of_an_exported_program():
    class Twice(torch.nn.Module):
        def forward(self, x):
            return scaled(x, 2.0, None)

    program = torch.export.export(Twice(), (torch.ones(2),))
    names = [str(node.target) for node in program.graph.nodes]
    assert 'mmdet_atc_test.scaled.default' in names


def test_compiled_and_recomputed_gradients():
    compiled = torch.compile(scaled, fullgraph=True, backend='aot_eager')
    for call in (compiled, lambda *args: checkpoint(scaled, *args, use_reentrant=False)):
        x = torch.ones(2, requires_grad=True)
        call(x, 2.0, None).sum().backward()
        assert x.grad.tolist() == [2, 2]
