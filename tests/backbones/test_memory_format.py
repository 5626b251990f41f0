"""What mmcv's operators make of the maps: RoIAlign on the CPU takes every memory for NCHW."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import roi_align
from mmdet.models import FPN
from torch import nn

from .micro import MICRO, micro


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('merging', [None, dict(keep_rate=0.5)])
def test_roi_features_of_a_neck_are_those_of_its_maps(merging, training):
    backbone, neck = micro(merging), FPN([MICRO['embed_dim']] * 4, 16, 5)
    nn.ModuleList([backbone, neck]).train(training)
    rois = torch.tensor([[0, 3.0, 5, 60, 40], [1, 10.0, 2, 90, 61]])
    with torch.no_grad():
        maps = neck(backbone(torch.randn(2, 3, 64, 96)))
    for level, stride in zip(maps, (4, 8, 16, 32), strict=False):
        found = roi_align(level, rois, (7, 7), 1 / stride, 2, 'avg', True)
        rows = level.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).contiguous()
        assert torch.equal(found, roi_align(rows, rois, (7, 7), 1 / stride, 2, 'avg', True))
