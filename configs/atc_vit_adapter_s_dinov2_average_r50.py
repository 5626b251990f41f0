_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_s_dinov2.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/finetune_s_4e.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='ATCViTAdapter',
        merging=dict(type='AgglomerativeMerging', linkage='average', keep_rate=0.5),
        merge_blocks=(3, 6, 9),
        proportional_attn=True,
    )
)
# The dense model that vit_adapter_s_dinov2_global_3x.py trains.
load_from = 'work_dirs/vit_adapter_s_dinov2_global_3x/epoch_36.pth'
