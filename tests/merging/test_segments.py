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
    """Rows, labels (one of them has none of the rows, one most), weights and their sums."""
    generator = torch.Generator().manual_seed(num_rows)
    x = torch.randn(2, num_rows, channels, generator=generator).to(dtype)
    labels = torch.randint(num_labels - 1, (2, num_rows), generator=generator)
    labels[:, ::2] = num_labels // 2
    labels[1, -1] = num_labels - 1
    weights = torch.rand(2, num_rows, generator=generator) + 0.1 if weighted else None
    ones = torch.ones(2, num_rows) if weights is None else weights
    totals = torch.zeros(2, num_labels).scatter_add_(1, labels, ones)
    return [t if t is None else t.to(DEVICE) for t in (x, labels, weights, totals)]


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize('dtype', DTYPES)
def test_the_kernels_are_the_plain_forms(dtype, weighted):
    x, labels, weights, totals = inputs(dtype, weighted)
    tokens = x[:, :11].contiguous()
    # The interpreter cuts bfloat16 off.
    tolerance = dict(rtol=8e-3, atol=1e-5) if dtype == torch.bfloat16 else {}
    for is_mean in (True, False):
        found = triton_form.segment_sum(x, labels, 11, weights, is_mean)
        expected = segment_sum_plain(x, labels, 11, weights, is_mean)
        assert [each.dtype for each in found] == [dtype, torch.float32]
        torch.testing.assert_close(found[0], expected[0], equal_nan=True, **tolerance)
        torch.testing.assert_close(found[1], expected[1])
        torch.testing.assert_close(found[1], totals)
        parts = weights, totals if is_mean else None
        taken = triton_form.take_rows(tokens, labels, *parts)
        assert taken.dtype == dtype
        torch.testing.assert_close(taken, take_rows_plain(tokens, labels, *parts), **tolerance)


@pytest.mark.parametrize(
    ('num_rows', 'num_labels'), [(1, 1), (128, 3), (300, 300), (33, 1), (2, 9), (64, 8)]
)
def test_any_number_of_rows_and_labels(num_rows, num_labels):
    x = torch.randn(1, num_rows, 8, device=DEVICE)
    labels = torch.randint(num_labels, (1, num_rows), device=DEVICE)
    found = triton_form.segment_sum(x, labels, num_labels, None, False)
    torch.testing.assert_close(found, segment_sum_plain(x, labels, num_labels, None, False))


@pytest.mark.parametrize('garbage', [-(2**31), 0, 5, 2**31 - 1])
def test_a_label_without_rows_is_nothing_whatever_its_memory_holds(garbage):
    """The other labels' starts are written, its own is not."""
    x = torch.ones(1, 6, 4, device=DEVICE)
    keys = torch.tensor([[0, 1, 14, 15, 16, 17]], dtype=torch.int32, device=DEVICE)
    starts = torch.tensor([[0, garbage, 2]], dtype=torch.int32, device=DEVICE)
    out, totals = torch.empty(1, 3, 4, device=DEVICE), torch.empty(1, 3, device=DEVICE)
    triton_form._sum_kernel[(3, 1)](
        *(x, keys, starts, None, totals, out, 6, 3),
        MEAN=False,
        CHANNELS=4,
        BLOCK_CHANNELS=4,
        MEMBERS=2,
    )
    assert totals.tolist() == [[2, 0, 4]]
    assert out[0, :, 0].tolist() == [2, 0, 4]


def test_keys_beyond_32_bits():
    labels = inputs(torch.float32, False)[1][:1] * 6_000_000  # times 41 rows
    keys = torch.empty(1, 41, dtype=torch.int64, device=DEVICE)
    starts = torch.zeros(60_000_001, dtype=torch.int32, device=DEVICE)
    triton_form._order_kernel[(2, 1)](labels, keys, starts, 41, 60_000_001, **triton_form._ORDER)
    assert keys.tolist() == (labels * 41 + torch.arange(41, device=DEVICE)).sort().values.tolist()


@pytest.mark.parametrize('weighted', [True, False])
def test_each_is_the_adjoint_of_the_other(weighted, monkeypatch):
    """So that the operators' gradients are right."""
    x, labels, weights, totals = inputs(torch.float64, weighted)
    totals = totals.clamp(min=1e-3)  # a token of no row gets none of the gradient
    tokens = torch.randn(2, 11, 40, dtype=torch.float64, device=DEVICE)
    for parts in ((weights, totals), (weights, None)):
        taken = take_rows_plain(tokens, labels, *parts)
        summed, _ = segment_sum_plain(x, labels, 11, weights, parts[1] is not None)
        torch.testing.assert_close((x * taken).sum(), (summed * tokens).nansum())
        monkeypatch.setattr(segments, '_segment_sum', segment_sum_plain)
        monkeypatch.setattr(segments, '_take_rows', take_rows_plain)
        context = type('Context', (), dict(saved_tensors=(labels, *parts), num_labels=11))
        assert torch.equal(segments._sum_gradients(context, tokens, None)[0], taken)
        found = segments._take_gradients(context, x)[0]
        torch.testing.assert_close(found, summed, rtol=0, atol=0, equal_nan=True)


def test_the_operators_have_fakes_and_gradients():
    x = torch.empty(2, 7, 4, device='meta', dtype=torch.float16, requires_grad=True)
    labels = torch.empty(2, 7, device='meta', dtype=torch.long)
    merged, totals = segments._segment_sum(x, labels, 3, None, True)
    assert (totals.shape, totals.dtype) == ((2, 3), torch.float32)
    out = segments._take_rows(merged, labels, None, None)
    assert (merged.shape, out.shape, out.dtype) == ((2, 3, 4), (2, 7, 4), torch.float16)
    out.sum().backward()
    assert (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype)


def test_the_door_leads_to_the_same():
    x, labels, weights, _ = inputs(torch.float32, True)
    found = segment_mean(x.requires_grad_(), labels, 11, weights)
    expected = segment_sum_plain(x, labels, 11, weights, True)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert not found[1].requires_grad
    assert torch.equal(take_rows(x, labels), take_rows_plain(x, labels, None, None))
