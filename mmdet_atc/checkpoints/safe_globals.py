"""What a training checkpoint may hold besides tensors and plain Python values.

``torch.load`` unpickles with ``weights_only=True`` since torch 2.6 and then refuses every class
that is not allow-listed. MMEngine's checkpoints hold its own scalar histories, made of numpy
arrays and of references to the history's methods; exactly those are allowed, and the protection
stays on for everything else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_STATISTICS = ('min', 'max', 'current', 'mean')


def allow_mmengine_checkpoints() -> None:
    """Allow-list the classes of MMEngine's training state for ``torch.load``."""
    # numpy 2 renamed the module that numpy 1 pickles its arrays with.
    multiarray = getattr(np, '_core', None) or np.core
    multiarray = multiarray.multiarray
    dtypes = {type(np.dtype(kind)) for kind in ('bool', 'int32', 'int64', 'float32', 'float64')}
    allowed: list = [
        HistoryBuffer,
        multiarray._reconstruct,
        multiarray.scalar,
        np.ndarray,
        np.dtype,
    ]
    # A history pickles its methods as getattr(HistoryBuffer, name); plain getattr would open
    # every attribute of every object to a hostile file.
    allowed.append((_history_method, 'builtins.getattr'))
    torch.serialization.add_safe_globals([*allowed, *dtypes])


def _history_method(owner: object, name: str) -> Callable:
    """``getattr`` for the statistics methods of ``HistoryBuffer`` only."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(
            f'checkpoint asks for attribute {name!r} of {owner!r}, which is not allowed'
        )
    return getattr(HistoryBuffer, name)
