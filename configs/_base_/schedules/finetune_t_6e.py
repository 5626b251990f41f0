_base_ = './adamw.py'

optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-6))
train_cfg = dict(max_epochs=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=6, milestones=[4], gamma=0.1),
]
