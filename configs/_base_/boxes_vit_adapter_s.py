"""What detectors of boxes alone share: data, evaluation, and three maps of a ViT-Adapter-S."""

_base_ = '../vit_adapter_s_global_3x.py'

boxes = dict(type='LoadAnnotations', with_bbox=True)
model = dict(backbone=dict(out_indices=(1, 2, 3)))
train_dataloader = dict(
    dataset=dict(pipeline=[_base_.train_pipeline[0], boxes, *_base_.train_pipeline[2:]])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.test_pipeline[:2], boxes, *_base_.test_pipeline[3:]])
)
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
# Of the map of stride 4, which no head reads.
find_unused_parameters = True
