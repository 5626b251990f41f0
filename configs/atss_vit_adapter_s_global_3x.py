"""MMDetection's ATSS on a ViT-Adapter-S."""

_base_ = './_base_/boxes_vit_adapter_s.py'

from mmengine.hub import get_config

model = dict(get_config('mmdet::atss/atss_r50_fpn_1x_coco.py').model)
model.update(_delete_=True, backbone=dict(_base_.model.backbone, drop_path_rate=0.1))
model['neck'].update(in_channels=_base_.model.neck.in_channels[1:], start_level=0)
