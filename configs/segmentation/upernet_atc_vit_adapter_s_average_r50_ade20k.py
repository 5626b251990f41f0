"""Merging with ATC: a tenth of the dense model's steps, at a tenth of its learning rate."""

_base_ = './upernet_vit_adapter_s_ade20k.py'

model = dict(
    backbone=dict(
        type='mmdet.ATCViTAdapter',
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
    )
)
optim_wrapper = dict(optimizer=dict(lr=6e-6, weight_decay=1e-6))
train_cfg = dict(max_iters=16000, val_interval=1600)
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=0.001, end=500),
    dict(_base_.param_scheduler[1], begin=500, end=16000),
]
load_from = 'work_dirs/upernet_vit_adapter_s_ade20k/iter_160000.pth'
