"""Differences between files and models are listed by part, with the likely cause."""

from __future__ import annotations

import functools

import pytest
import torch

from mmdet_atc.checkpoints import CheckpointError, difference, fitted

from ..configs.on_meta import on_meta


@pytest.fixture(scope='module')
def states():
    """State dicts of detectors by config, without memory for their weights."""
    built = functools.cache(lambda name, **backbone: on_meta(name, **backbone).state_dict())
    return lambda name, **backbone: dict(built(name, **backbone))


def explained(given, wanted) -> list[str]:
    return difference(given, wanted).splitlines()


def test_the_dense_and_the_merging_model_are_the_same_to_a_checkpoint(states):
    dense = states('vit_adapter_t_global_3x')
    for name in (
        'vit_adapter_t_window_3x',
        'atc_vit_adapter_t_single_r25',
        'tome_vit_adapter_t_r50',
    ):
        assert not difference(dense, states(name))


@pytest.mark.parametrize('model', ['b', 'l', 's_dinov2'])
def test_files_in_the_layout_of_released_ones_fit_the_larger_models(states, model):
    """As MMCV 1.x writes a windowed dense model: wrapped, without batch norm's counters."""
    dense = states(f'vit_adapter_{model}_window_3x')
    state = {k: v for k, v in dense.items() if not k.endswith('num_batches_tracked')}
    file = dict(meta=dict(CLASSES=('person',)), state_dict=state)
    wanted = states(f'atc_vit_adapter_{model}_average_r50')
    assert fitted(file, wanted, 'released.pth.tar').keys() == state.keys()
    del state['backbone.blocks.11.attn.qkv.bias']
    with pytest.raises(CheckpointError, match=r'missing: backbone\.blocks, 1 tensors'):
        fitted(file, wanted, 'released.pth.tar')


def test_the_other_size_is_named(states):
    small, tiny = states('vit_adapter_s_global_3x'), states('atc_vit_adapter_t_average_r50')
    lines = explained(small, tiny)
    found = [line.split(',')[0].strip() for line in lines[:-1]]
    backbone = ('blocks', 'interactions', 'level_embed', 'norm1', 'norm2', 'norm3', 'norm4')
    backbone += ('patch_embed', 'pos_embed', 'spm', 'up')
    assert found == [*(f'other shape: backbone.{part}' for part in backbone), 'other shape: neck']
    assert 'norm1.weight, (384,) in the file, (192,) here' in lines[0]
    assert lines[-1] == (
        'Hint: the file has 384 channels (size S), the config 192 channels (size T): '
        "take the config of the file's size"
    )


def test_lost_parts_are_counted_and_named(states):
    wanted = states('vit_adapter_t_global_3x')
    given = {k: v for k, v in wanted.items() if not k.startswith('roi_head.mask_head')}
    given['roi_head.mask_iou_head.fc.weight'] = torch.zeros(1)
    assert explained(given, wanted) == [
        '  missing: roi_head.mask_head, 12 tensors such as roi_head.mask_head.convs.0.conv.weight',
        '  unexpected: roi_head.mask_iou_head, 1 tensors such as roi_head.mask_iou_head.fc.weight',
        "Hint: the architectures differ: compare model in the config with the file's config",
    ]


def test_another_backbone_is_named(states):
    wanted = states('vit_adapter_t_global_3x')
    given = {k: v for k, v in wanted.items() if not k.startswith('backbone')}
    given['backbone.layer1.0.conv1.weight'] = torch.zeros(1)
    lines = explained(given, wanted)
    assert any(line.startswith('  missing: backbone.interactions, ') for line in lines)
    assert any(line.startswith('  unexpected: backbone.layer1, 1 ') for line in lines)
    assert lines[-1].startswith('Hint: the backbones differ: one of them is no ViT-Adapter')


def test_a_classifier_is_no_detector(states):
    wanted = states('vit_adapter_t_global_3x')
    given = {
        k.removeprefix('backbone.'): v for k, v in wanted.items() if k.startswith('backbone.blocks')
    }
    assert 'model.backbone.init_cfg.checkpoint' in explained(given, wanted)[-1]


def test_layer_scales_are_named(states):
    wanted = states('vit_adapter_t_global_3x')
    lines = explained(states('vit_adapter_t_global_3x', layer_scale=True), wanted)
    assert lines[0].startswith('  unexpected: backbone.blocks, 24 tensors such as')
    assert 'model.backbone.layer_scale' in lines[-1]


def test_another_number_of_classes_is_named(states):
    wanted = states('vit_adapter_t_global_3x')
    given = {**wanted}
    for name in ('bbox_head.fc_cls', 'bbox_head.fc_reg', 'mask_head.conv_logits'):
        for kind in ('weight', 'bias'):
            key = f'roi_head.{name}.{kind}'
            rows = dict(fc_cls=21, fc_reg=80, conv_logits=20)[name.split('.')[1]]
            given[key] = torch.zeros(rows, *wanted[key].shape[1:], device='meta')
    assert 'the file knows 20 classes, the config 80' in explained(given, wanted)[-1]
