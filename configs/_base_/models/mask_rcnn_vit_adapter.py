"""Mask R-CNN (FPN) on a ViT-Adapter with global attention; sizes are set by vit_adapter_{t,s}."""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

custom_imports = dict(imports=['mmdet_atc'], allow_failed_imports=False)
# SyncBN in distributed training on GPUs, batch norm of the process elsewhere.
sync_bn = 'torch'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ViTAdapter',
        patch_size=16,
        depth=12,
        mlp_ratio=4,
        conv_inplane=64,
        n_points=4,
        deform_num_heads=6,
        cffn_ratio=0.25,
        deform_ratio=1.0,
        interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
    ),
)
