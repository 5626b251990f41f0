"""A small dense UPerNet that learns the generated shapes from nothing in minutes on a CPU."""

_base_ = './_base_/upernet_vit_adapter_s.py'

_dim = 96
_classes = dict(num_classes=5, channels=64)
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(embed_dim=_dim, num_heads=3, mlp_ratio=2, conv_inplane=16, init_cfg=None),
    decode_head=dict(_classes, in_channels=[_dim] * 4),
    auxiliary_head=dict(_classes, in_channels=_dim),
    test_cfg=dict(mode='slide', crop_size=(128, 128), stride=(96, 96)),
)

data_root = '{{$SHAPES_ROOT:data/shapes}}'
shapes = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=('background', 'circle', 'rectangle', 'triangle', 'star')),
    img_suffix='.png',
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **shapes,
        data_prefix=dict(img_path='train2017', seg_map_path='semantic_train2017'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **shapes,
        data_prefix=dict(img_path='val2017', seg_map_path='semantic_val2017'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    optimizer=dict(lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    paramwise_cfg=None,
)
train_cfg = dict(max_iters=800, val_interval=800)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=800, T_max=700),
]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=800, max_keep_ckpts=1, save_best=None)
)
randomness = dict(seed=0)
