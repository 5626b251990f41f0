"""What the dense and the fine-tuning schedules share."""

# tools/train.py accumulates gradients until this many images make one optimizer step, on any
# number of GPUs (mmdet_atc.engine.set_total_batch_size).
total_batch_size = 16
auto_scale_lr = dict(enable=False, base_batch_size=16)

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale=dict(init_scale=512),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'level_embed': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
            'bias': dict(decay_mult=0.0),
        }
    ),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
