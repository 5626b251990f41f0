_base_ = './mask_rcnn_vit_adapter.py'

model = dict(
    backbone=dict(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.4,
        deform_num_heads=16,
        deform_ratio=0.5,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
    ),
    neck=dict(in_channels=[1024, 1024, 1024, 1024]),
)
