_base_ = './mask_rcnn_vit_adapter.py'

model = dict(
    backbone=dict(embed_dim=384, num_heads=6, drop_path_rate=0.2),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
