"""All forms of deformable attention over one table, forward and gradients.

Where there is no GPU Triton's interpreter runs the kernels (``tests/conftest.py``).
"""

from __future__ import annotations

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from mmdet_atc.layers import deformable_attention
from mmdet_atc.layers.deformable import api, cpp, plain, sampled

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
from mmdet_atc.layers.deformable import triton as triton_form

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
PYRAMID = ((6, 9), (3, 5), (1, 2))
#: Batch, queries, heads, channels, points, levels, dtype of values and of projections.
TABLE = {
    'injector-f64': (2, 17, 2, 16, 2, PYRAMID, torch.float64, torch.float64),
    'extractor-f64': (2, 17, 1, 32, 4, PYRAMID[:1], torch.float64, torch.float64),
    'odd-channels-f64': (1, 5, 3, 5, 1, PYRAMID[1:], torch.float64, torch.float64),
    'injector-f32': (1, 17, 2, 32, 2, PYRAMID, torch.float32, torch.float32),
    'injector-f16': (1, 17, 2, 32, 2, PYRAMID, torch.float16, torch.float16),
    'extractor-f16': (1, 33, 2, 64, 4, PYRAMID[:1], torch.float16, torch.float16),
    'wide-offsets-f16': (1, 17, 1, 32, 4, PYRAMID, torch.float16, torch.float32),
    'extractor-bf16': (1, 17, 2, 64, 4, PYRAMID[:1], torch.bfloat16, torch.bfloat16),
}
#: Largest relative error of a result in a dtype, its own rounding included; Triton's interpreter
#: cuts bfloat16 off.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 6e-4,
    torch.bfloat16: 8e-3,
}


def inputs(batch, queries, heads, channels, points, shapes, dtype, of_projections):
    """Value, projections, reference and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    total = sum(height * width for height, width in shapes)
    value = randn(batch, total, heads, channels)
    reference = torch.rand(queries, 2, generator=generator)
    # Many of the samples lie outside, some far away.
    offsets = 5 * randn(batch, queries, heads, len(shapes), points, 2)
    offsets[:, 0] = 6e4
    logits = 3 * randn(batch, queries, heads * len(shapes) * points)
    projections = torch.cat([offsets.flatten(2), logits], dim=2)
    grad = randn(batch, queries, heads, channels)
    return (
        value.to(DEVICE, dtype),
        projections.to(DEVICE, of_projections),
        reference.to(DEVICE),
        grad.to(DEVICE, dtype),
    )


def flat(shapes) -> list[int]:
    return [side for shape in shapes for side in shape]


def with_gradients(attend, value, projections, reference, shapes, grad) -> list[Tensor]:
    value, projections = (x.detach().clone().requires_grad_() for x in (value, projections))
    out = attend(value, projections, reference, shapes)
    out.backward(grad)
    return [out.detach(), value.grad, projections.grad]


def through_mmcv(value, projections, reference, shapes) -> Tensor:
    """The way ViT-Adapter and Deformable DETR write it."""
    heads = value.shape[2]
    split = projections.shape[2] // 3 * 2
    offsets = projections[..., :split].unflatten(2, (heads, len(shapes), -1, 2))
    logits = projections[..., split:].unflatten(2, (heads, -1))
    cells = value.new_tensor([(width, height) for height, width in shapes])
    locations = reference.to(value.dtype)[:, None, None, None] + offsets / cells[:, None]
    weights = logits.softmax(-1).unflatten(-1, (len(shapes), -1))
    out = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    return out.unflatten(2, (heads, -1))


def assert_close(found: list[Tensor], expected: list[Tensor], dtypes) -> None:
    for x, y, dtype in zip(found, expected, dtypes, strict=True):
        assert x.dtype == dtype
        error = (x.double() - y.double()).norm() / y.double().norm()
        assert error <= TOLERANCE[dtype]


def exact(shapes, value, projections, reference, grad) -> list[Tensor]:
    """The plain form of the same inputs in float64."""
    return with_gradients(
        plain.deformable_attention,
        *(x.double() for x in (value, projections, reference)),
        shapes,
        grad.double(),
    )


@pytest.mark.parametrize('name', [name for name in TABLE if name[-3:] in ('f64', 'f32')])
def test_the_form_of_exported_files_equals_the_plain_form(name):
    shapes, dtype, _ = TABLE[name][5:]
    value, projections, reference, _ = inputs(*TABLE[name])
    found = sampled.deformable_attention(value, projections, reference.to(dtype), shapes)
    expected = plain.deformable_attention(
        *(x.double() for x in (value, projections, reference)), shapes
    )
    assert_close([found], [expected], [dtype])


@pytest.mark.parametrize('case', TABLE.values(), ids=TABLE)
def test_the_kernels_equal_the_plain_form(case):
    shapes, dtype, of_projections = case[5:]
    value, projections, reference, grad = inputs(*case)
    tensors = value, projections, reference
    out = triton_form.forward(*tensors, flat(shapes))
    grads = triton_form.backward(*tensors, grad, flat(shapes))
    expected = exact(shapes, *tensors, grad)
    assert_close([out, *grads], expected, (dtype, dtype, of_projections))


@pytest.mark.parametrize('case', TABLE.values(), ids=TABLE)
@pytest.mark.parametrize('form', [plain.deformable_attention, deformable_attention])
def test_the_other_forms_equal_it_in_every_dtype(form, case):
    assert cpp.library() is not None
    shapes, dtype, of_projections = case[5:]
    value, projections, reference, grad = inputs(*case)
    found = with_gradients(form, value, projections, reference, shapes, grad)
    expected = exact(shapes, value, projections, reference, grad)
    assert_close(found, expected, (dtype, dtype, of_projections))


@pytest.mark.parametrize('case', [case for case in TABLE.values() if case[6] == torch.float64])
def test_the_plain_form_equals_mmcv_s(case):
    shapes = case[5]
    value, projections, reference, grad = inputs(*case)
    tensors = value, projections, reference.double(), shapes, grad
    expected = with_gradients(through_mmcv, *tensors)
    found = with_gradients(plain.deformable_attention, *tensors)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('block', [4, 64])
def test_any_block_of_queries_gives_the_same(block):
    case = TABLE['injector-f32']
    value, projections, reference, grad = inputs(*case)
    tensors, shapes = (value, projections, reference), flat(case[5])
    options = dict(BLOCK_QUERIES=block, num_warps=4)
    out = triton_form.forward(*tensors, shapes, options)
    assert_close([out], [triton_form.forward(*tensors, shapes)], [torch.float32])
    found = triton_form.backward(*tensors, grad, shapes, options)
    expected = triton_form.backward(*tensors, grad, shapes)
    assert_close(found, expected, [torch.float32] * 2)


def test_half_precision_does_not_move_samples():
    """Cells 1,000 apart from the origin: half precision alone would miss by up to half a cell."""
    value = torch.arange(1024.0, device=DEVICE)[None, :, None, None].repeat(1, 1, 1, 32)
    reference = torch.tensor([[(900 + 0.75) / 1024, 0.5]], device=DEVICE)
    projections = torch.zeros(1, 1, 3, device=DEVICE, dtype=torch.float16)
    out = triton_form.forward(value, projections, reference, [1, 1024])
    assert out.unique().tolist() == [900.25]


def test_not_a_number_is_handed_on():
    value, projections, reference, _ = inputs(*TABLE['injector-f32'])
    projections[0, 3, -1] = float('nan')  # a logit of the last head
    projections[0, 4, 0] = float('nan')  # an offset: a sample that lies nowhere
    shapes = TABLE['injector-f32'][5]
    for out in (
        triton_form.forward(value, projections, reference, flat(shapes)),
        plain.deformable_attention(value, projections, reference, shapes),
        deformable_attention(value, projections, reference, shapes),
    ):
        assert out[0, 3, -1].isnan().all()
        out[0, 3, -1] = 0
        assert out.isfinite().all()


@pytest.mark.parametrize('threads', [2, 5])
def test_threads_change_no_bit(threads, monkeypatch):
    """Torch's own setting is 1 where tests run side by side."""
    value, projections, reference, grad = (
        x.cpu() for x in inputs(2, 700, 3, 16, 4, PYRAMID, torch.float32, torch.float32)
    )
    results = []
    for count in (1, threads):
        monkeypatch.setattr(torch, 'get_num_threads', lambda count=count: count)
        tensors = value, projections, reference, PYRAMID, grad
        results.append(with_gradients(deformable_attention, *tensors))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_strided_inputs():
    value, projections, reference, _ = inputs(*TABLE['injector-f32'])
    strided = [x.mT.contiguous().mT for x in (value, projections, reference)]
    assert not any(x.is_contiguous() for x in strided)
    expected = deformable_attention(value, projections, reference, PYRAMID)
    assert torch.equal(deformable_attention(*strided, PYRAMID), expected)


def test_operator_is_sound_for_tracing_and_autograd():
    value, projections, reference, _ = inputs(1, 5, 2, 4, 2, PYRAMID, *[torch.float64] * 2)
    value.requires_grad_(), projections.requires_grad_()
    torch.library.opcheck(
        torch.ops.mmdet_atc.deformable_attention, (value, projections, reference, flat(PYRAMID))
    )


def test_compiled_it_is_one_graph_with_the_same_gradients():
    value, projections, reference, grad = inputs(*TABLE['injector-f32'])
    tensors = value, projections, reference, PYRAMID, grad
    compiled = torch.compile(deformable_attention, fullgraph=True, backend='aot_eager')
    expected = with_gradients(deformable_attention, *tensors)
    torch.testing.assert_close(with_gradients(compiled, *tensors), expected)


def test_without_a_compiler_the_plain_form_takes_over(monkeypatch):
    value, projections, reference, grad = inputs(*TABLE['injector-f32'])
    tensors = value, projections, reference, PYRAMID, grad
    expected = with_gradients(plain.deformable_attention, *tensors)
    monkeypatch.setattr(api, '_why_plain', lambda *_: 'no C++ compiler')
    for x, y in zip(with_gradients(deformable_attention, *tensors), expected, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize('wants_grad', [True, False])
def test_deterministic_gradients_on_a_gpu_are_the_plain_form_s(wants_grad):
    with FakeTensorMode(allow_non_fake_inputs=True):
        value = torch.empty(1, 1, 1, 1, device='cuda', requires_grad=wants_grad)
    assert api._why_plain(value, value) is None
    torch.use_deterministic_algorithms(True)
    try:
        assert (api._why_plain(value, value) is not None) == wants_grad
        with torch.no_grad():
            assert api._why_plain(value, value) is None
    finally:
        torch.use_deterministic_algorithms(False)
