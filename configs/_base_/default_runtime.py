default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='MainProcessLoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Old layouts are read; a checkpoint that does not fit the model is an error.
    checkpoint_fit=dict(type='CheckpointFitHook'),
    # Augments and samples alike whether training was interrupted or not.
    epoch_seed=dict(type='EpochSeedHook'),
    # Says which module and which image NaN comes from.
    finite_check=dict(type='FiniteCheckHook'),
    # Says that a run is shorter than its warm-up.
    warm_up=dict(type='WarmUpCheckHook'),
    # Draws nothing until `draw=True` (tools/test.py --show-dir sets it).
    visualization=dict(type='DetVisualizationHook'),
    # Likewise: pictures of token clusters during validation.
    clusters=dict(type='ClusterVisualizationHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
