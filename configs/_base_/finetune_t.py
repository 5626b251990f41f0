"""Fine-tuning of a merging ViT-Adapter-T from its trained dense model, as in the paper."""

_base_ = [
    './models/mask_rcnn_vit_adapter_t.py',
    './datasets/coco_instance.py',
    './schedules/finetune_t_6e.py',
    './default_runtime.py',
]

model = dict(backbone=dict(type='ATCViTAdapter', merge_blocks=(3, 6, 9), proportional_attn=True))
# The dense model that vit_adapter_t_global_3x.py trains.
load_from = 'work_dirs/vit_adapter_t_global_3x/epoch_36.pth'
