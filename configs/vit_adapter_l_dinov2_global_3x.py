_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_l_dinov2.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/dense_3x_layer_decay.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='timm://vit_large_patch14_dinov2.lvd142m',
        )
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
