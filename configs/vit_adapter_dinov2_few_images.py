"""Table 3 in miniature: learns eight of COCO's images by heart (tools/table3_in_miniature.sh)."""

_base_ = './vit_adapter_s_dinov2_global_3x.py'

# What learns in few steps: the ViT stays as it is, boxes and masks are of no class, and groups are
# normalised, as one image is no batch. Half of the channels in neck and heads: speed on a CPU.
model = dict(
    backbone=dict(norm_cfg=dict(type='GN', num_groups=32), frozen_blocks=12, drop_path_rate=0.0),
    neck=dict(out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, reg_class_agnostic=True),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, conv_out_channels=128, class_agnostic=True),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)

images = list(range(18, 26))
load = dict(type='LoadImageFromFile')
resize = dict(type='Resize', scale=(448, 320), keep_ratio=True)
annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
train_pipeline = [load, annotations, resize, dict(type='PackDetInputs')]
# Evaluated in the images' own size.
test_pipeline = [load, resize, annotations, dict(type='PackDetInputs', meta_keys=keys)]
train_dataloader = dict(
    batch_size=1,
    num_workers=1,
    dataset=dict(indices=images, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        indices=images,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_base_.data_root + '/annotations/instances_train2017.json')
test_evaluator = val_evaluator

total_batch_size = 1
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
train_cfg = dict(max_epochs=45, val_interval=15)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=45, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    logger=dict(interval=8), checkpoint=dict(interval=15, max_keep_ckpts=1, save_best=None)
)
log_processor = dict(window_size=8)
randomness = dict(seed=0)
