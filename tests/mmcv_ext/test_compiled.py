"""The supplied operators against mmcv's compiled ones; collected where mmcv is compiled."""

from __future__ import annotations

import mmcv.ops
import pytest
import torch

from .test_operators import REGIONS, some_boxes


def both(supplied_operators, function):
    """What a function returns with mmcv's operators and with the supplied ones."""
    compiled = function()
    with supplied_operators():
        return compiled, function()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('rois', [REGIONS, REGIONS[:0]], ids=['regions', 'none'])
def test_roi_align_is_the_same(supplied_operators, rois, sampling_ratio, aligned, dtype):
    feature = torch.randn(2, 3, 24, 32).to(dtype).requires_grad_()
    given = torch.randn(len(rois), 3, 7, 5).to(dtype)

    def pooled():
        out = mmcv.ops.roi_align(
            feature, rois.to(dtype), (7, 5), 0.5, sampling_ratio, 'avg', aligned
        )
        return out.detach(), torch.autograd.grad(out, feature, given)[0]

    compiled, ours = both(supplied_operators, pooled)
    torch.testing.assert_close(ours, compiled, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_roi_align_is_the_same_inside_autocast(supplied_operators, dtype):
    feature = torch.randn(2, 3, 24, 32).to(dtype)

    def pooled():
        with torch.autocast('cpu'):
            return mmcv.ops.roi_align(feature, REGIONS.to(dtype), (7, 5), 0.5, 0, 'avg', True)

    compiled, ours = both(supplied_operators, pooled)
    assert ours.dtype == compiled.dtype
    torch.testing.assert_close(ours, compiled, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('number', [0, 1, 300])
def test_soft_nms_is_the_same(supplied_operators, number, method, offset):
    boxes, scores = some_boxes(number)
    compiled, ours = both(
        supplied_operators,
        lambda: mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset),
    )
    assert ours[1].tolist() == compiled[1].tolist()
    torch.testing.assert_close(ours[0], compiled[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('number', [0, 1, 300, 10_500])
@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('max_num', [-1, 50])
def test_class_wise_nms_is_the_same(supplied_operators, number, class_agnostic, max_num):
    """Above 10,000 boxes mmcv takes one class after another."""
    boxes, scores = some_boxes(number)
    classes = torch.randint(7, (number,))
    settings = dict(type='nms', iou_threshold=0.5, max_num=max_num, class_agnostic=class_agnostic)
    if not number:  # mmcv takes the largest corner of none
        settings['class_agnostic'] = True
    compiled, ours = both(
        supplied_operators, lambda: mmcv.ops.batched_nms(boxes, scores, classes, settings)
    )
    assert ours[1].tolist() == compiled[1].tolist()
    assert torch.equal(ours[0], compiled[0])
