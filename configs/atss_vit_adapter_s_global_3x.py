"""MMDetection's ATSS on a ViT-Adapter-S."""

_base_ = './vit_adapter_s_global_3x.py'

from mmengine.hub import get_config

model = dict(get_config('mmdet::atss/atss_r50_fpn_1x_coco.py').model)
model.update(
    _delete_=True,
    backbone=dict(_base_.model.backbone, out_indices=(1, 2, 3), drop_path_rate=0.1),
)
model['neck'].update(in_channels=_base_.model.neck.in_channels[1:], start_level=0)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
# Of the map of stride 4, which no head reads.
find_unused_parameters = True
