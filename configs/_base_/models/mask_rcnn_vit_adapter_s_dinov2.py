"""DINOv2's grid of 37 x 37 patches is kept: with patches of 16 pixels it is one of 592."""

_base_ = './mask_rcnn_vit_adapter_s.py'

model = dict(backbone=dict(img_size=592, pretrain_size=592, layer_scale=True))
