"""From AugReg, which was trained at 384 pixels on values in -1..1."""

_base_ = './upernet_vit_adapter_s_ade20k.py'

half = [127.5] * 3
model = dict(
    data_preprocessor=dict(mean=half, std=half),
    backbone=dict(
        img_size=384,
        pretrain_size=384,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        deform_num_heads=16,
        deform_ratio=0.5,
        drop_path_rate=0.4,
        interaction_indexes=[[0, 5], [6, 11], [12, 17], [18, 23]],
        with_cp=True,
        init_cfg=dict(
            checkpoint=(
                'https://storage.googleapis.com/vit_models/augreg/L_16-i21k-300ep-lr_0.001-'
                'aug_medium1-wd_0.1-do_0.1-sd_0.1--imagenet2012-steps_20k-lr_0.01-res_384.npz'
            ),
        ),
    ),
    decode_head=dict(in_channels=[1024] * 4),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
del half
