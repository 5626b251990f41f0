"""The C++ sampling equals mmcv's PyTorch form, gradients included."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from mmdet_atc.layers import deformable_sampling
from mmdet_atc.layers.deformable_sampling import sample_on_cpu

SHAPES = ((6, 9), (3, 5), (1, 2))


def inputs(channels: int, dtype=torch.float64, shapes=SHAPES, queries: int = 70):
    generator = torch.Generator().manual_seed(0)
    total = sum(height * width for height, width in shapes)
    levels = len(shapes)
    value = torch.randn(2, total, 3, channels, generator=generator, dtype=dtype)
    reference = torch.rand(queries, 2, generator=generator, dtype=dtype)
    # Many of the samples lie outside, some far away.
    offsets = 5 * torch.randn(2, queries, 3, levels, 4, 2, generator=generator, dtype=dtype)
    offsets[:, 0] = 1e6
    logits = 3 * torch.randn(2, queries, 3, levels * 4, generator=generator, dtype=dtype)
    tensors = [value, reference, offsets, logits]
    return [x.requires_grad_(x is not reference) for x in tensors]


def reference_form(value, shapes, reference, offsets, logits):
    """Through mmcv, the way ViT-Adapter and Deformable DETR write it."""
    cells = torch.tensor([(width, height) for height, width in shapes], dtype=value.dtype)
    locations = reference[None, :, None, None, None] + offsets / cells[:, None]
    weights = logits.softmax(-1).unflatten(-1, (len(shapes), -1))
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


@pytest.mark.parametrize('channels', [1, 5, 16, 32, 64])
@pytest.mark.parametrize('shapes', [SHAPES, SHAPES[:1]])
def test_values_and_gradients_equal_mmcv(channels, shapes):
    assert deformable_sampling._library() is not None
    ours, theirs = inputs(channels, shapes=shapes), inputs(channels, shapes=shapes)
    out = sample_on_cpu(ours[0], shapes, *ours[1:])
    expected = reference_form(theirs[0], shapes, *theirs[1:])
    torch.testing.assert_close(out, expected)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    out.backward(grad)
    expected.backward(grad)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


@pytest.mark.parametrize('threads', [2, 5])
def test_threads_change_no_bit(threads, monkeypatch):
    """Torch's own setting is 1 where tests run side by side."""
    results = []
    for count in (1, threads):
        monkeypatch.setattr(torch, 'get_num_threads', lambda count=count: count)
        tensors = inputs(16, torch.float32, queries=700)
        out = sample_on_cpu(tensors[0], SHAPES, *tensors[1:])
        grads = torch.autograd.grad(out.square().sum(), [x for x in tensors if x.requires_grad])
        results.append([out, *grads])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_single_precision_and_strided_inputs():
    value, *rest = (x.detach() for x in inputs(32, torch.float32))
    strided = value.transpose(1, 2).contiguous().transpose(1, 2)
    out = sample_on_cpu(strided, SHAPES, *rest)
    torch.testing.assert_close(out, reference_form(value, SHAPES, *rest))


def test_operator_is_sound_for_tracing_and_autograd():
    tensors = inputs(4, queries=5)
    flat = [side for shape in SHAPES for side in shape]
    torch.library.opcheck(deformable_sampling._sample, (*tensors, flat))


def test_without_a_compiler_mmcv_takes_over(monkeypatch):
    value, *rest = (x.detach() for x in inputs(8))
    expected = sample_on_cpu(value, SHAPES, *rest)
    monkeypatch.setattr(deformable_sampling, '_library', lambda: None)
    torch.testing.assert_close(sample_on_cpu(value, SHAPES, *rest), expected)
