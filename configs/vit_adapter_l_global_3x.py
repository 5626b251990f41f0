_base_ = [
    './_base_/models/mask_rcnn_vit_adapter_l_augreg.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/dense_3x_layer_decay.py',
    './_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint=(
                'https://storage.googleapis.com/vit_models/augreg/L_16-i21k-300ep-lr_0.001-'
                'aug_medium1-wd_0.1-do_0.1-sd_0.1--imagenet2012-steps_20k-lr_0.01-res_384.npz'
            ),
        )
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
