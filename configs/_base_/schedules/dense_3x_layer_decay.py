_base_ = './dense_3x.py'

# Vectors (norms, biases, layer scales) do not decay.
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7, flat_decay_mult=0.0),
)
