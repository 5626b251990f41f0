_base_ = './upernet_vit_adapter_s_ade20k.py'

model = dict(
    backbone=dict(
        embed_dim=192,
        num_heads=3,
        drop_path_rate=0.1,
        init_cfg=dict(
            checkpoint='https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth'
        ),
    ),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
