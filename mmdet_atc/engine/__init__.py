"""From a config file to a run: paths, device, batch size, seeds, checkpoints."""

from .checkpoint_fit import CheckpointFitHook
from .checkpoint_hook import AtomicCheckpointHook
from .classes import follow_classes
from .command_line import positive_int, usable_device
from .config import choose_start, choose_weights, load_config
from .device import adapt_to_device
from .epoch_seed import EpochSeedHook, seed_worker
from .faults import config_mistakes_in_one_line, faults_in_one_line
from .finite_check import FiniteCheckHook
from .launchers import check_launched, world_size
from .logger_hook import MainProcessLoggerHook
from .total_batch_size import set_total_batch_size

__all__ = [
    'AtomicCheckpointHook',
    'CheckpointFitHook',
    'EpochSeedHook',
    'FiniteCheckHook',
    'MainProcessLoggerHook',
    'adapt_to_device',
    'check_launched',
    'choose_start',
    'choose_weights',
    'config_mistakes_in_one_line',
    'faults_in_one_line',
    'follow_classes',
    'load_config',
    'positive_int',
    'seed_worker',
    'set_total_batch_size',
    'usable_device',
    'world_size',
]
