"""From a config file to a run: paths, device, batch size, seeds."""

from .config import choose_start, load_config, world_size
from .device import adapt_to_device
from .epoch_seed import EpochSeedHook, seed_worker
from .total_batch_size import set_total_batch_size

__all__ = [
    'EpochSeedHook',
    'adapt_to_device',
    'choose_start',
    'load_config',
    'seed_worker',
    'set_total_batch_size',
    'world_size',
]
