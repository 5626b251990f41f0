_base_ = './mask_rcnn_vit_adapter.py'

model = dict(
    backbone=dict(
        embed_dim=768, num_heads=12, drop_path_rate=0.2, deform_num_heads=12, deform_ratio=0.5
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
)
