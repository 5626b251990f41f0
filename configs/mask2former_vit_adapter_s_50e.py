"""MMDetection's Mask2Former for instances on a ViT-Adapter-S, with its own augmentation and recipe.

Its 368,750 iterations, with drops at 327,778 and 355,092, are 50 epochs with drops at 44 and 48.
"""

_base_ = './vit_adapter_s_global_3x.py'

from mmengine.hub import get_config

theirs = get_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
model = dict(theirs.model, _delete_=True, backbone=_base_.model.backbone)
model['panoptic_head'].in_channels = _base_.model.neck.in_channels
train_dataloader = dict(dataset=dict(pipeline=theirs.train_pipeline))
optim_wrapper = dict(theirs.optim_wrapper, _delete_=True)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=50, milestones=[44, 48], gamma=0.1)
]
train_cfg = dict(max_epochs=50)
del theirs
