"""Merging with ATC: a tenth of the dense model's steps, at a tenth of its learning rate."""

_base_ = './mask2former_vit_adapter_s_cityscapes.py'

model = dict(
    backbone=dict(
        type='mmdet.ATCViTAdapter',
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-6))
train_cfg = dict(max_iters=9000, val_interval=900)
param_scheduler = [dict(_base_.param_scheduler[0], end=9000)]
load_from = 'work_dirs/mask2former_vit_adapter_s_cityscapes/iter_90000.pth'
