"""The forms of the segment mean agree, and so do their gradients."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.merging import segments
from mmdet_atc.merging.segments import segment_mean_plain

from ..layers.conftest import _interpreter_works_with_numpy  # noqa: F401


def inputs(dtype, weighted: bool, channels: int = 40, num_rows: int = 37, num_labels: int = 11):
    x = torch.randn(2, num_rows, channels).to(dtype)
    rest = torch.randint(num_labels, (2, num_rows - num_labels))
    labels = torch.cat([torch.arange(num_labels).expand(2, -1), rest], dim=1)
    weights = torch.rand(2, num_rows) + 0.1 if weighted else None
    ones = torch.ones(2, num_rows) if weights is None else weights
    totals = torch.zeros(2, num_labels).scatter_add_(1, labels, ones)
    return x, labels, totals, weights


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_triton_form_is_the_plain_one(dtype, weighted):
    from mmdet_atc.merging.triton_segments import segment_mean

    arguments = inputs(dtype, weighted)
    if dtype == torch.bfloat16:  # numpy has none: the interpreter rounds otherwise
        arguments = (arguments[0].sign(), *arguments[1:])
    found, expected = segment_mean(*arguments), segment_mean_plain(*arguments)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('weighted', [True, False])
def test_the_operators_gradient_is_that_of_the_plain_form(weighted, monkeypatch):
    x, *rest = inputs(torch.float64, weighted)
    x.requires_grad_()
    expected = segment_mean_plain(x, *rest)
    grad = torch.randn_like(expected)
    ctx = type('Context', (), dict(saved_tensors=tuple(rest)))
    found, *none = segments._backward(ctx, grad)
    torch.testing.assert_close(found, torch.autograd.grad(expected, x, grad)[0])
    assert none == [None] * 3
