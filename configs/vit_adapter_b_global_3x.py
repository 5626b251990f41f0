_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_b.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/dense_3x.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/deit/deit_base_patch16_224-b5f2ef4d.pth',
        )
    )
)
