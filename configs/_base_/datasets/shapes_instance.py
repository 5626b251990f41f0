"""The generated set of tools/misc/make_shapes_dataset.py, for demos and tests."""

_base_ = './coco_instance.py'

data_root = '{{$SHAPES_ROOT:data/shapes}}'
_pipeline_head = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]
train_pipeline = [*_pipeline_head, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
_shapes = dict(
    data_root=data_root,
    metainfo=dict(classes=('circle', 'rectangle', 'triangle', 'star')),
)

train_dataloader = dict(
    batch_size=4,
    dataset=dict(**_shapes, filter_cfg=dict(filter_empty_gt=True, min_size=8), pipeline=train_pipeline),
)
val_dataloader = dict(dataset=_shapes)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
