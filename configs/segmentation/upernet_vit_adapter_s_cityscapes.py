"""Trained for as long as MMSegmentation trains its own UPerNet there."""

_base_ = ['./_base_/upernet_vit_adapter_s.py', 'mmseg::_base_/datasets/cityscapes.py']

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    test_cfg=dict(mode='slide', crop_size=(512, 1024), stride=(341, 683)),
)
train_cfg = dict(max_iters=80000, val_interval=8000)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=80000)]
