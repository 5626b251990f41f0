_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_b_dinov2.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/dense_3x_layer_decay.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='timm://vit_base_patch14_dinov2.lvd142m',
        )
    )
)
