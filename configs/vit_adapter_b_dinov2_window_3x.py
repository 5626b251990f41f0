_base_ = './vit_adapter_b_dinov2_global_3x.py'

model = dict(backbone=dict(window_attn=[True, True, False] * 4, window_size=14))
