"""The oldest torch that the plugin runs with."""

from __future__ import annotations

import torch

_OLDEST = '2.6'


def require_torch() -> None:
    """Refuse a torch that would run code out of a checkpoint.

    Raises:
        ImportError: If torch is older than 2.6.
    """
    if torch.__version__ < _OLDEST:
        raise ImportError(
            f'mmdet_atc needs torch {_OLDEST} or newer, this is {torch.__version__}: before, '
            'loading a checkpoint ran what it holds, and no name could be allow-listed. Install it '
            'with the torchvision of the same release, and build mmcv against it'
        )
