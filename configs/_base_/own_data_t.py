"""Few images of one's own on one GPU, from weights trained on COCO: docs/custom_data.md.

Counted in images and not in epochs, so that 50 images and 5,000 take as many steps.
"""

_base_ = '../atc_vit_adapter_t_average_r50.py'

# Of 16 images each: 24,000 in all. tools/train.py makes them iterations of train_dataloader.
_steps = 1500
_interval = _steps // 10
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=_steps, val_interval=_interval)
param_scheduler = [
    # A tenth of the run, whereas COCO's 500 steps are more than 500 images have in six epochs.
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=_steps // 10),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=_steps // 10,
        end=_steps,
        T_max=_steps - _steps // 10,
        eta_min_ratio=0.01,
    ),
]
# The backbone goes on at the rate of the paper's fine-tuning (1e-5); what begins anew, and what it
# stands on, learns at the rate that the paper trains detectors at (1e-4).
_new = dict(lr_mult=10)
optim_wrapper = dict(
    # The longest key that fits a parameter counts: 'neck.' before 'bias'.
    paramwise_cfg=dict(custom_keys={'neck.': _new, 'rpn_head.': _new, 'roi_head.': _new}),
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=_interval, max_keep_ckpts=2),
    checkpoint_fit=dict(new_classes=True),
)
log_processor = dict(by_epoch=False)
