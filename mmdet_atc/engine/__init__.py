"""From a config file to a run: command line, paths, device, batch size, hooks."""

from .classes import follow_classes
from .cli import RunParser, faults_in_one_line, positive_int, usable_device
from .device import adapt_to_device
from .hooks import (
    AtomicCheckpointHook,
    CheckpointFitHook,
    EpochSeedHook,
    FiniteCheckHook,
    MainProcessLoggerHook,
    WarmUpCheckHook,
    seed_worker,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .private import unwrapped
from .run import build, load_config, prepare_test, prepare_training
from .total_batch_size import set_total_batch_size
from .variants import Variant

__all__ = [
    'AtomicCheckpointHook',
    'CheckpointFitHook',
    'EpochSeedHook',
    'FiniteCheckHook',
    'LayerDecayOptimWrapperConstructor',
    'MainProcessLoggerHook',
    'RunParser',
    'Variant',
    'WarmUpCheckHook',
    'adapt_to_device',
    'build',
    'faults_in_one_line',
    'follow_classes',
    'load_config',
    'positive_int',
    'prepare_test',
    'prepare_training',
    'seed_worker',
    'set_total_batch_size',
    'unwrapped',
    'usable_device',
]
