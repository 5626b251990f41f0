_base_ = './mask_rcnn_vit_adapter.py'

model = dict(
    backbone=dict(embed_dim=192, num_heads=3, drop_path_rate=0.1),
    neck=dict(in_channels=[192, 192, 192, 192]),
)
