"""A small ATC Mask R-CNN that learns the generated shapes from nothing in minutes on a CPU."""

_base_ = [
    './_base_/models/mask_rcnn_vit_adapter.py',
    './_base_/datasets/shapes_instance.py',
    './_base_/schedules/adamw.py',
    './_base_/default_runtime.py',
]

_dim = 96
_norm = dict(type='GN', num_groups=16)
_num_classes = 4
# Objects are 50 to 90 pixels wide: take their features from the level of stride 8.
_roi_extractor = dict(out_channels=64, finest_scale=28, roi_layer=dict(sampling_ratio=2))
# A bin of the mask's 14 x 14 is smaller than a cell of that level: one sample tells all of it.
_mask_roi_extractor = dict(_roi_extractor, roi_layer=dict(sampling_ratio=1))
model = dict(
    backbone=dict(
        type='ATCViTAdapter',
        embed_dim=_dim,
        num_heads=3,
        mlp_ratio=2,
        conv_inplane=16,
        interaction_indexes=[[0, 5], [6, 11]],
        use_extra_extractor=False,
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
    ),
    neck=dict(in_channels=[_dim] * 4, out_channels=64, norm_cfg=_norm),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=_roi_extractor,
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=_num_classes),
        mask_roi_extractor=_mask_roi_extractor,
        mask_head=dict(
            num_convs=2,
            in_channels=64,
            conv_out_channels=64,
            norm_cfg=_norm,
            num_classes=_num_classes,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=250, max_per_img=100), rcnn=dict(max_per_img=30)),
)

# Many small steps: at this size they teach more than few large ones.
total_batch_size = 2
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    paramwise_cfg=None,
)
train_cfg = dict(max_epochs=4, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', T_max=4, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=4, max_keep_ckpts=1))
randomness = dict(seed=0)
