"""AugReg was trained at 384 pixels, on values in -1..1."""

_base_ = './mask_rcnn_vit_adapter_l.py'

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(img_size=384, pretrain_size=384),
)
