_base_ = './atss_vit_adapter_s_global_3x.py'

model = dict(backbone=dict(window_attn=[True, True, False] * 4, window_size=14))
