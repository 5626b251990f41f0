_dim = 96
_mask_roi_extractor = dict(
    finest_scale=28, out_channels=64, roi_layer=dict(sampling_ratio=1))
_norm = dict(num_groups=16, type='GN')
_num_classes = 4
_roi_extractor = dict(
    finest_scale=28, out_channels=64, roi_layer=dict(sampling_ratio=2))
auto_scale_lr = dict(base_batch_size=16, enable=False)
backend_args = None
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'mmdet_atc',
    ])
data_root = '/tmp/compat/shapes'
dataset_type = 'CheckedCocoDataset'
default_hooks = dict(
    checkpoint=dict(
        interval=1,
        max_keep_ckpts=2,
        save_best='auto',
        type='AtomicCheckpointHook'),
    checkpoint_fit=dict(type='CheckpointFitHook'),
    clusters=dict(draw=True, num_images=1, type='ClusterVisualizationHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    finite_check=dict(type='FiniteCheckHook'),
    logger=dict(interval=1, type='MainProcessLoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    sync_buffers=dict(type='SyncBuffersHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='DetVisualizationHook'))
default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='gloo'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
launcher = 'none'
load_from = None
load_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(scale_factor=1.0, type='Resize'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]
log_level = 'INFO'
log_processor = dict(by_epoch=True, type='LogProcessor', window_size=50)
model = dict(
    _scope_='mmdet',
    backbone=dict(
        cffn_ratio=0.25,
        conv_inplane=4,
        deform_num_heads=2,
        deform_ratio=1.0,
        depth=4,
        drop_path_rate=0.1,
        embed_dim=12,
        img_size=64,
        interaction_indexes=[
            [
                0,
                1,
            ],
            [
                2,
                3,
            ],
        ],
        merge_blocks=(
            1,
            2,
        ),
        merging=dict(
            keep_rate=0.5, linkage='average', type='AgglomerativeMerging'),
        mlp_ratio=2,
        n_points=4,
        num_heads=2,
        patch_size=16,
        pretrain_size=64,
        type='ATCViTAdapter',
        use_extra_extractor=False),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_mask=True,
        pad_size_divisor=32,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='DetDataPreprocessor'),
    neck=dict(
        in_channels=[
            12,
            12,
            12,
            12,
        ],
        norm_cfg=dict(num_groups=2, type='GN'),
        num_outs=5,
        out_channels=8,
        type='FPN'),
    roi_head=dict(
        bbox_head=dict(
            bbox_coder=dict(
                target_means=[
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                ],
                target_stds=[
                    0.1,
                    0.1,
                    0.2,
                    0.2,
                ],
                type='DeltaXYWHBBoxCoder'),
            fc_out_channels=8,
            in_channels=8,
            loss_bbox=dict(loss_weight=1.0, type='L1Loss'),
            loss_cls=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
            num_classes=4,
            reg_class_agnostic=False,
            roi_feat_size=7,
            type='Shared2FCBBoxHead'),
        bbox_roi_extractor=dict(
            featmap_strides=[
                4,
                8,
                16,
                32,
            ],
            finest_scale=28,
            out_channels=8,
            roi_layer=dict(output_size=7, sampling_ratio=2, type='RoIAlign'),
            type='SingleRoIExtractor'),
        mask_head=dict(
            conv_out_channels=8,
            in_channels=8,
            loss_mask=dict(
                loss_weight=1.0, type='CrossEntropyLoss', use_mask=True),
            norm_cfg=dict(num_groups=2, type='GN'),
            num_classes=4,
            num_convs=1,
            type='FCNMaskHead'),
        mask_roi_extractor=dict(
            featmap_strides=[
                4,
                8,
                16,
                32,
            ],
            finest_scale=28,
            out_channels=8,
            roi_layer=dict(output_size=14, sampling_ratio=1, type='RoIAlign'),
            type='SingleRoIExtractor'),
        type='StandardRoIHead'),
    rpn_head=dict(
        anchor_generator=dict(
            ratios=[
                0.5,
                1.0,
                2.0,
            ],
            scales=[
                8,
            ],
            strides=[
                4,
                8,
                16,
                32,
                64,
            ],
            type='AnchorGenerator'),
        bbox_coder=dict(
            target_means=[
                0.0,
                0.0,
                0.0,
                0.0,
            ],
            target_stds=[
                1.0,
                1.0,
                1.0,
                1.0,
            ],
            type='DeltaXYWHBBoxCoder'),
        feat_channels=8,
        in_channels=8,
        loss_bbox=dict(loss_weight=1.0, type='L1Loss'),
        loss_cls=dict(
            loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=True),
        type='RPNHead'),
    test_cfg=dict(
        rcnn=dict(
            mask_thr_binary=0.5,
            max_per_img=30,
            nms=dict(iou_threshold=0.5, type='nms'),
            score_thr=0.05),
        rpn=dict(
            max_per_img=100,
            min_bbox_size=0,
            nms=dict(iou_threshold=0.7, type='nms'),
            nms_pre=250)),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                ignore_iof_thr=-1,
                match_low_quality=True,
                min_pos_iou=0.5,
                neg_iou_thr=0.5,
                pos_iou_thr=0.5,
                type='MaxIoUAssigner'),
            debug=False,
            mask_size=28,
            pos_weight=-1,
            sampler=dict(
                add_gt_as_proposals=True,
                neg_pos_ub=-1,
                num=32,
                pos_fraction=0.5,
                type='RandomSampler')),
        rpn=dict(
            allowed_border=-1,
            assigner=dict(
                ignore_iof_thr=-1,
                match_low_quality=True,
                min_pos_iou=0.3,
                neg_iou_thr=0.3,
                pos_iou_thr=0.7,
                type='MaxIoUAssigner'),
            debug=False,
            pos_weight=-1,
            sampler=dict(
                add_gt_as_proposals=False,
                neg_pos_ub=-1,
                num=128,
                pos_fraction=0.5,
                type='RandomSampler')),
        rpn_proposal=dict(
            max_per_img=100,
            min_bbox_size=0,
            nms=dict(iou_threshold=0.7, type='nms'),
            nms_pre=200)),
    type='MaskRCNN')
optim_wrapper = dict(
    accumulative_counts=1,
    clip_grad=dict(max_norm=1.0, norm_type=2),
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ),
        fused=True,
        lr=0.001,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=None,
    type='OptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=200, start_factor=0.01, type='LinearLR'),
    dict(
        T_max=4,
        by_epoch=True,
        convert_to_iter_based=True,
        type='CosineAnnealingLR'),
]
randomness = dict(seed=0)
resume = False
shapes = dict(
    data_root='/tmp/compat/shapes',
    metainfo=dict(classes=(
        'circle',
        'rectangle',
        'triangle',
        'star',
    )))
sync_bn = None
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='annotations/instances_val2017.json',
        backend_args=None,
        data_prefix=dict(img='val2017/'),
        data_root='/tmp/compat/shapes',
        metainfo=dict(classes=(
            'circle',
            'rectangle',
            'triangle',
            'star',
        )),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(scale_factor=1.0, type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ),
                type='PackDetInputs'),
        ],
        test_mode=True,
        type='CheckedCocoDataset'),
    drop_last=False,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'),
    worker_init_fn=dict(type='seed_worker'))
test_evaluator = dict(
    ann_file='/tmp/compat/shapes/annotations/instances_val2017.json',
    backend_args=None,
    format_only=False,
    metric=[
        'bbox',
        'segm',
    ],
    type='CheckedCocoMetric')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(scale_factor=1.0, type='Resize'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
        type='PackDetInputs'),
]
total_batch_size = 4
train_cfg = dict(max_epochs=2, type='EpochBasedTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    batch_size=4,
    dataset=dict(
        ann_file='annotations/instances_train2017.json',
        backend_args=None,
        data_prefix=dict(img='train2017/'),
        data_root='/tmp/compat/shapes',
        filter_cfg=dict(filter_empty_gt=True, min_size=8),
        metainfo=dict(classes=(
            'circle',
            'rectangle',
            'triangle',
            'star',
        )),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(scale_factor=1.0, type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(prob=0.5, type='RandomFlip'),
            dict(type='PackDetInputs'),
        ],
        type='CheckedCocoDataset'),
    num_workers=1,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='DefaultSampler'),
    worker_init_fn=dict(type='seed_worker'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(scale_factor=1.0, type='Resize'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PackDetInputs'),
]
train_scales = [
    (
        480,
        1333,
    ),
    (
        512,
        1333,
    ),
    (
        544,
        1333,
    ),
    (
        576,
        1333,
    ),
    (
        608,
        1333,
    ),
    (
        640,
        1333,
    ),
    (
        672,
        1333,
    ),
    (
        704,
        1333,
    ),
    (
        736,
        1333,
    ),
    (
        768,
        1333,
    ),
    (
        800,
        1333,
    ),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='annotations/instances_val2017.json',
        backend_args=None,
        data_prefix=dict(img='val2017/'),
        data_root='/tmp/compat/shapes',
        metainfo=dict(classes=(
            'circle',
            'rectangle',
            'triangle',
            'star',
        )),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(scale_factor=1.0, type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ),
                type='PackDetInputs'),
        ],
        test_mode=True,
        type='CheckedCocoDataset'),
    drop_last=False,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'),
    worker_init_fn=dict(type='seed_worker'))
val_evaluator = dict(
    ann_file='/tmp/compat/shapes/annotations/instances_val2017.json',
    backend_args=None,
    format_only=False,
    metric=[
        'bbox',
        'segm',
    ],
    type='CheckedCocoMetric')
vis_backends = [
    dict(type='LocalVisBackend'),
]
visualizer = dict(
    name='visualizer',
    type='DetLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
work_dir = '/tmp/compat/w'
