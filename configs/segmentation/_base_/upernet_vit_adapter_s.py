"""MMSegmentation's UPerNet on a ViT-Adapter-S, with ViT-Adapter's recipe of 16 crops a step."""

_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmdet_atc'], allow_failed_imports=False)
# SyncBN in distributed training on GPUs, batch norm of the process elsewhere.
sync_bn = 'torch'
norm_cfg = dict(type='BN')

model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmdet.ViTAdapter',
        embed_dim=384,
        num_heads=6,
        drop_path_rate=0.2,
        vit_features='each',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth',
        ),
    ),
    decode_head=dict(in_channels=[384] * 4, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=384, norm_cfg=norm_cfg),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.95, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
default_hooks = dict(
    checkpoint=dict(save_best='mIoU'),
    # Old layouts are read; a checkpoint that does not fit the model is an error.
    checkpoint_fit=dict(type='CheckpointFitHook'),
)
