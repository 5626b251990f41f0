"""MMDetection's GFL on a ViT-Adapter-S."""

_base_ = './_base_/boxes_vit_adapter_s.py'

from mmengine.hub import get_config

model = dict(get_config('mmdet::gfl/gfl_r50_fpn_1x_coco.py').model)
model.update(_delete_=True, backbone=_base_.model.backbone)
model['neck'].update(in_channels=_base_.model.neck.in_channels[1:], start_level=0)
