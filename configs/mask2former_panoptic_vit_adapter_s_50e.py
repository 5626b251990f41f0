"""MMDetection's Mask2Former for panoptic segmentation on a ViT-Adapter-S."""

_base_ = './mask2former_vit_adapter_s_50e.py'

from mmengine.hub import get_config

theirs = get_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py')
model = dict(theirs.model, _delete_=True, backbone=_base_.model.backbone)
model['panoptic_head'].in_channels = _base_.model.panoptic_head.in_channels
root = _base_.data_root
train_dataloader = dict(
    dataset=dict(_delete_=True, **dict(theirs.train_dataloader.dataset, data_root=root))
)
val_dataloader = dict(
    dataset=dict(_delete_=True, **dict(theirs.val_dataloader.dataset, data_root=root))
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='CocoPanopticMetric',
    ann_file=root + '/annotations/panoptic_val2017.json',
    seg_prefix=root + '/annotations/panoptic_val2017/',
)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='coco_panoptic/PQ', rule='greater'))
del theirs, root
