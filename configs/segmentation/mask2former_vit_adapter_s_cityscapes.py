"""MMSegmentation's Mask2Former on a ViT-Adapter-S, with its own recipe."""

_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py'

custom_imports = dict(imports=['mmdet_atc', 'mmdet.models'], allow_failed_imports=False)
# SyncBN in distributed training on GPUs, batch norm of the process elsewhere.
sync_bn = 'torch'
model = dict(
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
    decode_head=dict(in_channels=[384] * 4),
)
# Old layouts are read; a checkpoint that does not fit the model is an error.
default_hooks = dict(checkpoint_fit=dict(type='CheckpointFitHook'))
