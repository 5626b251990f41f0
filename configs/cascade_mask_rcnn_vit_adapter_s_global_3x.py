"""MMDetection's Cascade Mask R-CNN on a ViT-Adapter-S, with the box heads of ViT-Adapter's."""

_base_ = './vit_adapter_s_global_3x.py'

from mmengine.hub import get_config

model = dict(get_config('mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py').model)
model.update(_delete_=True, backbone=_base_.model.backbone)
model['neck'].in_channels = _base_.model.neck.in_channels
model['roi_head'].bbox_head = [
    dict(
        head,
        type='Shared4Conv1FCBBoxHead',
        reg_class_agnostic=False,
        reg_decoded_bbox=True,
        norm_cfg=dict(type='BN'),
        loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
    )
    for head in model['roi_head'].bbox_head
]
