_base_ = './upernet_vit_adapter_s_ade20k.py'

model = dict(
    backbone=dict(
        embed_dim=768,
        num_heads=12,
        deform_num_heads=12,
        deform_ratio=0.5,
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint='https://dl.fbaipublicfiles.com/deit/deit_base_patch16_224-b5f2ef4d.pth'
        ),
    ),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
