_base_ = ['./_base_/upernet_vit_adapter_s.py', './_base_/ade20k.py']

classes = dict(num_classes=150)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    decode_head=classes,
    auxiliary_head=classes,
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
