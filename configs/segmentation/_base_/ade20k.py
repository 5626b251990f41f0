"""ADE20K in crops of 512 pixels; evaluated on sides that are multiples of 32."""

_base_ = 'mmseg::_base_/datasets/ade20k.py'

test_pipeline = [*_base_.test_pipeline]
test_pipeline.insert(2, dict(type='ResizeToMultiple', size_divisor=32))
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
