"""MMDetection's DINO on a ViT-Adapter-S, with its own optimizer and schedule."""

_base_ = './_base_/boxes_vit_adapter_s.py'

from mmengine.hub import get_config

theirs = get_config('mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py')
model = dict(theirs.model, _delete_=True, backbone=_base_.model.backbone)
model['neck'].in_channels = _base_.model.neck.in_channels[1:]
model['data_preprocessor'].pad_size_divisor = 32
optim_wrapper = dict(theirs.optim_wrapper, _delete_=True)
param_scheduler = theirs.param_scheduler
train_cfg = dict(max_epochs=theirs.max_epochs)
del theirs
