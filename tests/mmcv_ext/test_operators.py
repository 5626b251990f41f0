"""The supplied operators against their definitions, and against mmcv's where it is compiled."""

from __future__ import annotations

import contextlib

import mmcv.ops
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from mmdet.models.losses import FocalLoss

from mmdet_atc import mmcv_ext

from . import references

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
NMS_FORMS = [references.nms] + ([references.COMPILED.nms] if references.COMPILED else [])


def some_boxes(number, *, whole=False, ties=False):
    corners = torch.rand(number, 2) * 40
    boxes = torch.cat([corners, corners + 1 + torch.rand(number, 2) * 30], 1)
    scores = torch.rand(number)
    if ties:
        scores = (scores * 8).round() / 8
    return (boxes.round() if whole else boxes), scores


def kept_boxes(boxes, scores, kept):
    """Scores and corners as a sorted list: among equal scores the order is free."""
    return sorted(torch.cat([scores[kept, None], boxes[kept]], 1).tolist())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('form', NMS_FORMS, ids=['definition', 'compiled'][: len(NMS_FORMS)])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('number', [0, 1, 2, 300])
@pytest.mark.parametrize('whole', [False, True])
@pytest.mark.parametrize('iou_threshold', [0.3, 0.5, 0.7])
def test_nms_keeps_the_same_boxes(form, number, offset, whole, iou_threshold, device):
    boxes, scores = some_boxes(number, whole=whole)
    kept = mmcv_ext.nms(boxes.to(device), scores.to(device), iou_threshold, offset)
    assert kept.dtype == torch.int64
    expected = form(boxes, scores, iou_threshold=iou_threshold, offset=offset)
    assert kept.tolist() == expected.tolist()


@pytest.mark.parametrize('form', NMS_FORMS, ids=['definition', 'compiled'][: len(NMS_FORMS)])
def test_nms_of_equal_scores_keeps_equal_boxes(form):
    """Copies of some boxes: which of them is kept is free, what is kept is not."""
    boxes, scores = some_boxes(40, whole=True)
    boxes, scores = boxes.repeat(5, 1), scores.repeat(5)
    kept = mmcv_ext.nms(boxes, scores, 0.5, 0)
    expected = form(boxes, scores, iou_threshold=0.5, offset=0)
    assert kept_boxes(boxes, scores, kept) == kept_boxes(boxes, scores, expected)


def test_overlap_at_the_threshold_is_kept():
    """3 / 10 as float32 lies above .3 as float64, and mmcv compares float32 numbers."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    assert mmcv_ext.nms(boxes, torch.tensor([0.9, 0.8]), 0.3, 0).tolist() == [0, 1]
    assert mmcv_ext.nms(boxes, torch.tensor([0.9, 0.8]), 0.2999, 0).tolist() == [0]


@pytest.mark.parametrize('number', [300, 10_500])
def test_class_wise_nms_is_that_of_each_class(supplied, number):
    """Above 10,000 boxes mmcv takes one class after another."""
    boxes, scores = some_boxes(number)
    boxes[:, 2:] -= 0.9  # more of them are kept
    classes = torch.randint(7, (number,))
    dets, kept = mmcv.ops.batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.5))
    expected = []
    for label in range(7):
        rows = (classes == label).nonzero()[:, 0]
        expected += rows[references.nms(boxes[rows], scores[rows], 0.5, 0)].tolist()
    assert sorted(kept.tolist()) == sorted(expected)
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[kept])
    assert (dets[:-1, 4] >= dets[1:, 4]).all()


def soft_nms_by_definition(boxes, scores, iou_threshold, sigma, min_score, method, offset):
    """Bodla et al., 2017, figure 2, with the boxes below ``min_score`` left out."""
    left, found = list(range(len(scores))), []
    scores = scores.clone()
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        found.append([best, *boxes[best].tolist(), scores[best].item()])
        overlaps = references.overlap(boxes[best], boxes[left], offset)
        factor = {
            'naive': (overlaps < iou_threshold).float(),
            'linear': torch.where(overlaps >= iou_threshold, 1 - overlaps, 1.0),
            'gaussian': torch.exp(-(overlaps**2) / sigma),
        }[method]
        scores[left] *= factor
        left = [i for i in left if scores[i] >= min_score]
    return torch.tensor(found).reshape(-1, 6)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('number', [0, 1, 100])
def test_soft_nms(supplied, method, offset, number):
    boxes, scores = some_boxes(number)
    dets, kept = mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    expected = soft_nms_by_definition(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    assert kept.tolist() == expected[:, 0].tolist()
    torch.testing.assert_close(dets, expected[:, 1:], rtol=0, atol=1e-6)


REGIONS = torch.tensor(
    [
        [0, 3.2, 5.1, 40.7, 33.3],
        [1, 0, 0, 64, 48],
        [0, -20, -20, 10, 12],  # partly outside
        [1, 200, 200, 210, 210],  # outside
        [0, 7, 7, 7, 7],  # without area
        [1, 30.5, 2.25, 31, 2.75],  # less than a cell
    ]
)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('rois', [REGIONS, REGIONS[:0]], ids=['regions', 'none'])
def test_roi_align(supplied, rois, sampling_ratio, aligned, dtype, device):
    feature = torch.randn(2, 3, 24, 32).to(device, dtype).requires_grad_()
    pooled = mmcv.ops.roi_align(
        feature, rois.to(feature), (7, 5), 0.5, sampling_ratio, 'avg', aligned
    )
    assert pooled.dtype == dtype
    reference = feature.detach().double().cpu().requires_grad_()
    expected = references.roi_align(
        reference, rois.to(dtype).double(), (7, 5), 0.5, sampling_ratio, aligned
    )
    given = torch.randn(expected.shape).to(dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(pooled.cpu().double(), expected, rtol=tolerance, atol=tolerance)
    (grad,) = torch.autograd.grad(pooled, feature, given.to(device))
    (expected_grad,) = torch.autograd.grad(expected, reference, given.double())
    torch.testing.assert_close(grad.cpu().double(), expected_grad, rtol=tolerance, atol=tolerance)


def test_roi_align_by_maxima_is_refused(supplied):
    with pytest.raises(NotImplementedError, match="roi_align with pool_mode='max'"):
        mmcv.ops.roi_align(torch.zeros(1, 1, 4, 4), REGIONS[:1], (2, 2), 1.0, 0, 'max', True)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_deformable_attention(supplied, dtype, device):
    """As mmdet's heads call it on a GPU, with mmcv's own plain form for the definition."""
    shapes = torch.tensor([[6, 5], [3, 2]])
    value = torch.randn(2, 36, 4, 8)
    locations = torch.rand(2, 7, 4, 2, 3, 2) * 1.2 - 0.1
    weights = torch.randn(2, 7, 4, 6).softmax(-1).reshape(2, 7, 4, 2, 3)
    inputs = [x.to(device, dtype).requires_grad_() for x in (value, locations, weights)]
    out = MultiScaleDeformableAttnFunction.apply(
        inputs[0], shapes.to(device), torch.tensor([0, 30]).to(device), *inputs[1:], 64
    )
    assert out.dtype == dtype
    doubles = [x.detach().double().cpu().requires_grad_() for x in inputs]
    expected = multi_scale_deformable_attn_pytorch(doubles[0], shapes, *doubles[1:])
    given = torch.randn(out.shape)
    grads = torch.autograd.grad(out, inputs, given.to(out))
    expected_grads = torch.autograd.grad(expected, doubles, given.to(dtype).double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 2e-2}[dtype]
    for got, wanted in zip([out, *grads], [expected, *expected_grads]):
        torch.testing.assert_close(got.cpu().double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_loss(supplied, dtype, weighted, device):
    logits = (torch.randn(60, 5, dtype=dtype) * 4).to(device).requires_grad_()
    # The last class is the background; mmcv reads the weight of none beyond the others.
    target = torch.randint(5 if weighted else 6, (60,), device=device)
    weight = torch.rand(5, dtype=dtype, device=device) if weighted else None
    loss = mmcv.ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'none')
    expected = references.focal_loss(logits, target, weight, 2.0, 0.25)
    given = torch.randn(60, 5, dtype=dtype, device=device)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=tolerance)
    # mmcv's function multiplies by a scalar or elementwise: any gradient does.
    grads = [torch.autograd.grad(x, logits, given)[0] for x in (loss, expected)]
    torch.testing.assert_close(*grads, rtol=tolerance, atol=tolerance)


def test_focal_loss_of_certain_wrong_logits_is_finite(supplied):
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, 'sum')
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_mmdets_focal_loss_is_the_same_on_its_gpu_branch(supplied, as_if_on_gpu):
    logits = torch.randn(30, 4, requires_grad=True)
    target = torch.randint(5, (30,))
    loss = FocalLoss()
    values = []
    for device in (as_if_on_gpu, contextlib.nullcontext):
        with device():
            value = loss(logits, target, avg_factor=3)
        values.append(torch.stack([value, *torch.autograd.grad(value, logits)[0].flatten()]))
    torch.testing.assert_close(*values)
