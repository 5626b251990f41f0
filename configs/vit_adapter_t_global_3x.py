_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_t.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/dense_3x.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth',
        )
    )
)
