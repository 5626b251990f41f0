"""Multiply-adds equal those counted by hand."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.layers import DeformableTarget, MSDeformAttn
from mmdet_atc.studies.speed.flops import _counted, count_macs
from mmdet_atc.studies.speed.inputs import noise_batch

from ...backbones.micro import micro
from ...configs.test_heads import built, tiny


def test_deformable_attention():
    queries, values, dim, heads, points = 4 * 6, 2 * 3, 48, 3, 4
    attention = MSDeformAttn(dim, 1, heads, points)
    target = DeformableTarget.between(((4, 6),), ((2, 3),), torch.device('cpu'))
    query, feature = torch.randn(2, queries, dim), torch.randn(2, values, dim)
    with torch.inference_mode():
        counter = _counted(attention, query, feature, target)
    linears = values * dim * dim + queries * dim * (heads * points * 3 + dim)
    # Four corners and one weight for each of the dim / heads channels of a head's samples.
    sampling = queries * heads * points * 5 * dim // heads
    assert counter.get_total_flops() == 2 * 2 * (linears + sampling)


def test_merging_saves_what_the_merged_blocks_no_longer_do():
    image = torch.randn(1, 3, 64, 96)
    dense, merged = micro().eval(), micro(dict(keep_rate=0.5)).eval()
    with torch.inference_mode():
        counted = [_counted(model, image).get_total_flops() for model in (dense, merged)]
    dim = 48

    def attention(tokens):
        return tokens * dim * 4 * dim + 2 * tokens * tokens * dim

    def mlp(tokens):
        return tokens * 8 * dim * dim

    expected = 0
    before = (*[24] * 4, *[12] * 3, *[6] * 3, *[3] * 2)
    after = (*[24] * 3, *[12] * 3, *[6] * 3, *[3] * 3)
    for tokens, left in zip(before, after, strict=True):
        expected += attention(24) - attention(tokens) + mlp(24) - mlp(left)
    # The distances of 24, 12 and 6 keys of 16 channels.
    expected -= 16 * (24**2 + 12**2 + 6**2)
    assert counted[0] - counted[1] == 2 * expected


@pytest.mark.parametrize('head', ['atss', 'dino', 'mask2former'])
def test_any_detector_has_a_backbone_and_heads(head):
    model = built(tiny(f'{head}_atc_vit_adapter_s_average_r50')).eval()
    macs = count_macs(model, model.data_preprocessor(noise_batch(96, 128), training=False))
    with torch.inference_mode():
        counter = _counted(model.backbone, torch.randn(1, 3, 96, 128))
    assert macs['backbone'] == counter.get_total_flops() / 2
    assert (macs['neck'] > 0) == (head != 'mask2former')
    assert macs['heads'] > macs['backbone']
    assert macs['total'] == macs['backbone'] + macs['neck'] + macs['heads']


def test_cascades_predict_masks_of_what_they_detect():
    model = built(tiny('cascade_mask_rcnn_atc_vit_adapter_s_average_r50')).eval()
    inputs = model.data_preprocessor(noise_batch(64, 96), training=False)
    counted = []
    for detections in (3, 5):
        model.roi_head.test_cfg.max_per_img = detections
        counted.append(count_macs(model, inputs)['heads'])
    head = model.roi_head.mask_head[0]
    weights = sum(conv.conv.weight.numel() for conv in head.convs) + head.upsample.weight.numel()
    a_mask = weights * 14**2 + head.conv_logits.weight.numel() * 28**2
    assert counted[1] - counted[0] == 3 * 2 * a_mask
    assert '_mask_forward' not in vars(model.roi_head)
