"""The micro model with ATC, fine-tuned from the dense one."""

_base_ = './upernet_vit_adapter_micro_shapes.py'

model = dict(
    backbone=dict(
        type='mmdet.ATCViTAdapter',
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_iters=200, val_interval=200)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=200, T_max=200)]
default_hooks = dict(checkpoint=dict(interval=200))
load_from = 'work_dirs/upernet_vit_adapter_micro_shapes/iter_800.pth'
