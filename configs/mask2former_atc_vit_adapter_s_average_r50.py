"""Mask2Former with ATC, fine-tuned from the dense detector by ATC's recipe."""

_base_ = './mask2former_vit_adapter_s_50e.py'

model = dict(
    backbone=dict(
        type='ATCViTAdapter',
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
    )
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, weight_decay=1e-6),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))),
)
train_cfg = dict(max_epochs=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(_base_.param_scheduler[-1], end=4, milestones=[3]),
]
load_from = 'work_dirs/mask2former_vit_adapter_s_50e/epoch_50.pth'
