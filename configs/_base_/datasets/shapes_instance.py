"""The generated set of tools/misc/make_shapes_dataset.py, for demos and tests."""

_base_ = './coco_instance.py'

data_root = '{{$SHAPES_ROOT:data/shapes}}'
# Images are used at the size that they are generated in.
load_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]
train_pipeline = [
    *load_pipeline,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    *load_pipeline,
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
shapes = dict(
    data_root=data_root,
    metainfo=dict(classes=('circle', 'rectangle', 'triangle', 'star')),
)

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        **shapes,
        filter_cfg=dict(filter_empty_gt=True, min_size=8),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(**shapes, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
