"""Segment sums and rows by label: the kernels equal the plain forms, each other's adjoint.

Where there is no GPU Triton's interpreter runs the kernels (``tests/conftest.py``).
"""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.merging import segments
from mmdet_atc.merging.segments import (
    segment_mean,
    segment_sum_plain,
    take_rows,
    take_rows_plain,
)

from ..layers.conftest import _interpreter_works_with_numpy  # noqa: F401

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
from mmdet_atc.merging import triton_segments as triton_form

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def inputs(dtype, weighted: bool, channels: int = 40, num_rows: int = 41, num_labels: int = 11):
    """Rows, labels (one of them has none of the rows, one most), weights and totals."""
    generator = torch.Generator().manual_seed(num_rows)
    x = torch.randn(2, num_rows, channels, generator=generator).to(dtype)
    labels = torch.randint(num_labels - 1, (2, num_rows), generator=generator)
    labels[:, ::2] = num_labels // 2
    labels[1, -1] = num_labels - 1
    weights = torch.rand(2, num_rows, generator=generator) + 0.1 if weighted else None
    ones = torch.ones(2, num_rows) if weights is None else weights
    totals = torch.zeros(2, num_labels).scatter_add_(1, labels, ones).clamp(min=1e-3)
    return [t if t is None else t.to(DEVICE) for t in (x, labels, weights, totals)]


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('dtype', DTYPES)
def test_the_kernels_are_the_plain_forms(dtype, weighted):
    x, labels, weights, totals = inputs(dtype, weighted)
    tokens = x[:, :11].contiguous()
    for parts in ((weights, totals), (weights, None)):
        for found, expected in (
            (
                triton_form.segment_sum(x, labels, 11, *parts),
                segment_sum_plain(x, labels, 11, *parts),
            ),
            (
                triton_form.take_rows(tokens, labels, *parts),
                take_rows_plain(tokens, labels, *parts),
            ),
        ):
            assert found.dtype == dtype
            # The interpreter cuts bfloat16 off.
            tolerance = dict(rtol=8e-3, atol=1e-5) if dtype == torch.bfloat16 else {}
            torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize(('num_rows', 'num_labels'), [(1, 1), (128, 3), (300, 300), (33, 1)])
def test_any_number_of_rows_and_labels(num_rows, num_labels):
    x = torch.randn(1, num_rows, 8, device=DEVICE)
    labels = torch.randint(num_labels, (1, num_rows), device=DEVICE)
    found = triton_form.segment_sum(x, labels, num_labels, None, None)
    torch.testing.assert_close(found, segment_sum_plain(x, labels, num_labels, None, None))


def test_keys_beyond_32_bits():
    labels = inputs(torch.float32, False)[1][:1] * 6_000_000  # times 41 rows
    expected = sorted(range(41), key=labels[0].tolist().__getitem__)
    order = torch.empty(1, 41, dtype=torch.int32, device=DEVICE)
    starts, counts = torch.zeros(2, 60_000_001, dtype=torch.int32, device=DEVICE)
    triton_form._order_kernel[(2, 1)](
        labels, order, starts, counts, 41, 60_000_001, WIDE=True, **triton_form._ORDER
    )
    assert order.tolist() == [expected]


@pytest.mark.parametrize('weighted', [True, False])
def test_each_is_the_adjoint_of_the_other(weighted, monkeypatch):
    """So that the operators' gradients are right."""
    x, labels, *parts = inputs(torch.float64, weighted)
    tokens = torch.randn(2, 11, 40, dtype=torch.float64, device=DEVICE)
    taken = take_rows_plain(tokens, labels, *parts)
    summed = segment_sum_plain(x, labels, 11, *parts)
    torch.testing.assert_close((x * taken).sum(), (summed * tokens).sum())
    monkeypatch.setattr(segments, '_segment_sum', segment_sum_plain)
    monkeypatch.setattr(segments, '_take_rows', take_rows_plain)
    context = type('Context', (), dict(saved_tensors=(labels, *parts), num_labels=11))
    assert torch.equal(segments._sum_gradients(context, tokens)[0], taken)
    assert torch.equal(segments._take_gradients(context, x)[0], summed)


def test_the_operators_have_fakes_and_gradients():
    x = torch.empty(2, 7, 4, device='meta', dtype=torch.float16, requires_grad=True)
    labels = torch.empty(2, 7, device='meta', dtype=torch.long)
    totals = torch.empty(2, 3, device='meta')
    merged = segments._segment_sum(x, labels, 3, None, totals)
    out = segments._take_rows(merged, labels, None, None)
    assert (merged.shape, out.shape, out.dtype) == ((2, 3, 4), (2, 7, 4), torch.float16)
    out.sum().backward()
    assert (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype)


def test_the_door_leads_to_the_same():
    x, labels, weights, totals = inputs(torch.float32, True)
    expected = segment_sum_plain(x, labels, 11, weights, totals)
    torch.testing.assert_close(segment_mean(x, labels, totals, weights), expected)
    assert torch.equal(take_rows(x, labels), take_rows_plain(x, labels, None, None))
