"""Fine-tuning of SViT-Adapter-S from the trained dense model, as in its paper and ATC's."""

_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_s.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/finetune_s_4e.py',
    './_base_/default_runtime.py',
]

model = dict(backbone=dict(type='SViTAdapter'))
# The dense model that vit_adapter_s_global_3x.py trains.
load_from = 'work_dirs/vit_adapter_s_global_3x/epoch_36.pth'
