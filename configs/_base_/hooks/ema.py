"""Exponential moving average of the weights: add this file to a config's `_base_` list."""

custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True)
]
