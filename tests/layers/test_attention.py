"""Attention against its definition."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.layers import Attention, WindowAttention, folded_attention, proportional_attention


def by_definition(q, k, v, sizes):
    """ToMe, eq. 1: softmax(q k / sqrt(d) + log size) v."""
    logits = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + sizes.log()[:, None, None, :]
    return logits.softmax(-1) @ v


@pytest.mark.parametrize('attention', [proportional_attention, folded_attention])
@pytest.mark.parametrize('head_dim', [16, 20, 64])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_proportional_attention(attention, head_dim, dtype, tolerance):
    q, k, v = torch.randn(3, 2, 3, 37, head_dim, dtype=dtype)
    sizes = torch.randint(1, 500, (2, 37)).to(dtype)
    error = attention(q, k, v, sizes) - by_definition(q, k, v, sizes)
    assert error.abs().max() < tolerance


@pytest.mark.parametrize('head_dim', [20, 23, 64])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sizes_cost_no_accuracy_in_half_precision(head_dim, dtype):
    """A logarithm rounded to the type of the keys makes this error four times as large or more."""
    q, k, v = torch.randn(3, 2, 3, 300, head_dim).to(dtype)
    errors = []
    for most in (2, 4000):
        sizes = torch.randint(1, most, (2, 300)).float()
        expected = by_definition(q.float(), k.float(), v.float(), sizes)
        out = proportional_attention(q, k, v, sizes)
        assert out.dtype == dtype
        errors.append((out - expected).square().mean().sqrt())
    assert errors[1] < 1.5 * errors[0]


def test_a_token_of_size_n_counts_as_n_equal_tokens():
    q, k, v = torch.randn(3, 1, 2, 6, 16, dtype=torch.float64)
    repeats = torch.tensor([1, 4, 2, 1, 3, 1])
    many = torch.nn.functional.scaled_dot_product_attention(
        q, k.repeat_interleave(repeats, 2), v.repeat_interleave(repeats, 2)
    )
    torch.testing.assert_close(proportional_attention(q, k, v, repeats[None].double()), many)


def test_both_forms_have_the_gradients_of_the_definition():
    sizes = torch.randint(1, 50, (2, 9)).double()
    inputs = [torch.randn(2, 2, 9, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    grads = [
        torch.autograd.grad(attention(*inputs, sizes).square().sum(), inputs)
        for attention in (by_definition, proportional_attention, folded_attention)
    ]
    for form in grads[1:]:
        for grad, expected in zip(form, grads[0]):
            torch.testing.assert_close(grad, expected)


def test_keys_are_averaged_over_heads():
    attention = Attention(24, 3)
    x = torch.randn(2, 10, 24)
    _, keys = attention(x, (2, 5), need_keys=True)
    expected = attention.qkv(x)[..., 24:48].reshape(2, 10, 3, 8).mean(2)
    torch.testing.assert_close(keys, expected)
    assert attention(x, (2, 5))[1] is None


@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize('with_sizes', [True, False])
def test_received_attention_is_the_mean_of_the_attention_matrix(monkeypatch, qkv_bias, with_sizes):
    monkeypatch.setattr('mmdet_atc.merging.proportional._QUERIES_AT_A_TIME', 4)
    attention = Attention(24, 3, qkv_bias).double()
    x = torch.randn(2, 10, 24, dtype=torch.float64, requires_grad=True)
    sizes = torch.randint(1, 9, (2, 10)) if with_sizes else None
    received = attention.received(x, sizes)
    assert not received.requires_grad
    for image in range(2):
        total = torch.zeros(10, dtype=torch.float64)
        for head in range(3):
            q, k = (attention.qkv(x[image])[:, 24 * i + 8 * head :][:, :8] for i in (0, 1))
            for query in q:
                odds = (k @ query / 8**0.5).exp()
                odds = odds if sizes is None else odds * sizes[image]
                total += odds / odds.sum()
        torch.testing.assert_close(received[image], total / 30)


def test_received_attention_is_exact_under_autocast():
    attention, x = Attention(24, 3), torch.randn(1, 300, 24)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = attention.received(x)
    assert torch.equal(half, attention.received(x))


def test_windows_have_no_received_attention():
    with pytest.raises(ValueError, match='merge only in global blocks'):
        WindowAttention(24, 3).received(torch.zeros(1, 10, 24))


def windows_by_definition(attention, x, grid, side):
    """Each window on its own; cells beyond the grid have zero query, key and value."""
    batch, _, dim = x.shape
    height, width = grid
    qkv = attention.qkv(x).reshape(batch, height, width, 3, attention.num_heads, -1)
    out = torch.zeros(batch, height, width, dim)
    for top in range(0, height, side):
        for left in range(0, width, side):
            window = qkv[:, top : top + side, left : left + side]
            rows, cols = window.shape[1:3]
            padded = qkv.new_zeros(batch, side, side, *qkv.shape[3:])
            padded[:, :rows, :cols] = window
            q, k, v = padded.flatten(1, 2).permute(2, 0, 3, 1, 4)
            logits = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            merged = (logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, side, side, dim)
            out[:, top : top + side, left : left + side] = merged[:, :rows, :cols]
    return attention.proj(out.flatten(1, 2))


@pytest.mark.parametrize('grid', [(6, 9), (3, 3), (7, 5), (2, 2)])
def test_window_attention(grid):
    attention = WindowAttention(24, 3, window_size=3)
    x = torch.randn(2, grid[0] * grid[1], 24)
    out, _ = attention(x, grid)
    torch.testing.assert_close(out, windows_by_definition(attention, x, grid, 3))


def test_bad_heads_and_windows_are_refused():
    with pytest.raises(ValueError, match='num_heads must divide the embedding dimension 24, got 5'):
        Attention(24, 5)
    with pytest.raises(ValueError, match='window_size'):
        WindowAttention(24, 3, window_size=0)
    with pytest.raises(ValueError, match='global blocks'):
        WindowAttention(24, 3)(torch.zeros(1, 4, 24), (2, 2), need_keys=True)


@pytest.fixture
def kernels_on_the_cpu(monkeypatch):
    """The GPU's way, its kernels in Triton's interpreter."""
    pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
    from mmdet_atc.merging import proportional, triton_proportional

    proportional._attention.register_kernel('cpu')(triton_proportional.attention)
    backward = triton_proportional.attention_backward
    proportional._attention_backward.register_kernel('cpu')(backward)
    monkeypatch.setattr(proportional, 'can_run_triton', lambda x: True)


@pytest.mark.parametrize('head_dim', [16, 64, 128])
@pytest.mark.parametrize('num_tokens', [5, 64, 200])
def test_the_kernels_and_their_gradients_are_as_exact_as_their_dtype(
    head_dim, num_tokens, kernels_on_the_cpu
):
    qkv = torch.randn(2, num_tokens, 3, 2, head_dim).half().requires_grad_()
    sizes = torch.randint(1, 500, (2, num_tokens)).float()
    weight = torch.randn(2, 2, num_tokens, head_dim)

    def of(attention, dtype):
        out = attention(*qkv.to(dtype).permute(2, 0, 3, 1, 4).unbind(0), sizes)
        (grad,) = torch.autograd.grad((out * weight.to(dtype)).sum(), qkv)
        return out, grad

    out, grad = of(proportional_attention, torch.float16)
    expected, expected_grad = of(by_definition, torch.float32)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), expected, rtol=2e-3, atol=2e-3)
    error = (grad.float() - expected_grad.float()).norm() / expected_grad.float().norm()
    assert error < 2e-3


def test_the_kernel_in_float32(kernels_on_the_cpu):
    q, k, v = torch.randn(3, 2, 2, 75, 32)
    sizes = torch.randint(1, 500, (2, 75)).float()
    with torch.no_grad():
        found = proportional_attention(q, k, v, sizes)
    torch.testing.assert_close(found, by_definition(q, k, v, sizes))


def test_the_kernels_take_any_strides(kernels_on_the_cpu):
    q, k, v = torch.randn(3, 2, 2, 16, 32).half()
    sizes = torch.randint(1, 9, (2, 32))
    found = proportional_attention(q.mT, k.mT.contiguous(), v.mT, sizes)
    expected = by_definition(q.mT.float(), k.mT.float(), v.mT.float(), sizes)
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=2e-3)
