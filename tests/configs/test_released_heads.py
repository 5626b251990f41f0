"""Files with the names and shapes of ViT-Adapter's released detectors load, all of each.

The heads' are written down here from ViT-Adapter's configs and MMDetection 2.x, which made them.
"""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.checkpoints import CheckpointError, fitted

from .on_meta import on_meta


def layer(name, *shape):
    return {f'{name}.weight': shape, f'{name}.bias': shape[:1]}


def normed_conv(name, norm, *shape):
    return {f'{name}.conv.weight': shape, **layer(f'{name}.{norm}', shape[0])}


def batch_normed_conv(name, *shape):
    statistics = {f'{name}.bn.running_{which}': shape[:1] for which in ('mean', 'var')}
    return {**normed_conv(name, 'bn', *shape), **statistics}


def pyramid(levels, outputs, width=384):
    neck = {}
    for i in range(levels):
        neck |= layer(f'neck.lateral_convs.{i}.conv', 256, width, 1, 1)
    for i in range(outputs):
        neck |= layer(f'neck.fpn_convs.{i}.conv', 256, 256, 3, 3)
    return neck


def proposals():
    head = layer('rpn_head.rpn_conv', 256, 256, 3, 3)
    return head | layer('rpn_head.rpn_cls', 3, 256, 1, 1) | layer('rpn_head.rpn_reg', 12, 256, 1, 1)


def boxes_and_masks(stage=''):
    box, mask = f'roi_head.bbox_head{stage}', f'roi_head.mask_head{stage}'
    head = layer(f'{box}.fc_cls', 81, 1024) | layer(f'{box}.fc_reg', 4 * 80, 1024)
    head |= layer(f'{box}.shared_fcs.0', 1024, 256 * 7 * 7)
    for i in range(4):
        head |= layer(f'{mask}.convs.{i}.conv', 256, 256, 3, 3)
    head |= layer(f'{mask}.upsample', 256, 256, 2, 2)
    return head | layer(f'{mask}.conv_logits', 80, 256, 1, 1)


def mask_rcnn(width):
    head = pyramid(4, 4, width) | proposals() | boxes_and_masks()
    return head | layer('roi_head.bbox_head.shared_fcs.1', 1024, 1024)


def cascade():
    head = pyramid(4, 4) | proposals()
    for stage in range(3):
        head |= boxes_and_masks(f'.{stage}')
        for i in range(4):
            convolution = f'roi_head.bbox_head.{stage}.shared_convs.{i}'
            head |= batch_normed_conv(convolution, 256, 256, 3, 3)
    return head


def towers():
    head = pyramid(3, 5)
    for i in range(4):
        for tower in ('cls', 'reg'):
            head |= normed_conv(f'bbox_head.{tower}_convs.{i}', 'gn', 256, 256, 3, 3)
    return head | {f'bbox_head.scales.{i}.scale': () for i in range(5)}


def atss():
    head = towers() | layer('bbox_head.atss_cls', 80, 256, 3, 3)
    head |= layer('bbox_head.atss_reg', 4, 256, 3, 3)
    return head | layer('bbox_head.atss_centerness', 1, 256, 3, 3)


def gfl():
    head = towers() | layer('bbox_head.gfl_cls', 80, 256, 3, 3)
    head |= layer('bbox_head.gfl_reg', 4 * 17, 256, 3, 3)
    return head | {'bbox_head.integral.project': (17,)}


HEADS = dict(cascade_mask_rcnn=cascade, atss=atss, gfl=gfl)


def released(model, head):
    """As MMDetection 2.x saves: a backbone, whose keys test_golden.py checks, and a head."""
    state = {name: value for name, value in model.state_dict().items() if 'backbone' in name}
    state |= {name: torch.empty(shape, device='meta') for name, shape in head.items()}
    return dict(meta=dict(epoch=36), state_dict=state)


@pytest.mark.parametrize('kind', ['vit_adapter_s_window_3x', 'atc_vit_adapter_s_average_r50'])
@pytest.mark.parametrize('head', HEADS)
def test_every_tensor_is_taken(head, kind):
    model = on_meta(f'{head}_{kind}')
    file = released(model, HEADS[head]())
    state = fitted(file, model.state_dict(), 'released.pth')
    assert set(state) == set(file['state_dict'])


@pytest.mark.parametrize(('size', 'width'), [('t', 192), ('s', 384), ('b', 768), ('l', 1024)])
def test_every_tensor_of_a_mask_rcnn_is_taken(size, width):
    model = on_meta(f'vit_adapter_{size}_window_3x')
    file = released(model, mask_rcnn(width))
    state = fitted(file, model.state_dict(), 'released.pth')
    assert set(state) == set(file['state_dict'])


def test_another_head_is_refused():
    model = on_meta('atss_vit_adapter_s_global_3x')
    with pytest.raises(CheckpointError, match=r'missing: bbox_head, .*\n.*unexpected: bbox_head'):
        fitted(released(model, gfl()), model.state_dict(), 'gfl.pth')
