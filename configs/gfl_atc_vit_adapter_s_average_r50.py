"""GFL with ATC, fine-tuned from the dense detector by ATC's recipe."""

_base_ = './gfl_vit_adapter_s_global_3x.py'

model = dict(
    backbone=dict(
        type='ATCViTAdapter',
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-6))
train_cfg = dict(max_epochs=4)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[-1], end=4, milestones=[3]),
]
load_from = 'work_dirs/gfl_vit_adapter_s_global_3x/epoch_36.pth'
