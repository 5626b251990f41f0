"""From a config file to a run: paths, device, batch size."""

from .config import choose_start, load_config, world_size
from .device import adapt_to_device
from .total_batch_size import set_total_batch_size

__all__ = [
    'adapt_to_device',
    'choose_start',
    'load_config',
    'set_total_batch_size',
    'world_size',
]
