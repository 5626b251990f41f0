"""Checkpoints: what may be unpickled, where they come from, how they fit a backbone."""

from .atomic import ATOMIC_BACKEND, replaced
from .convert import published, to_mmdet2, to_mmengine
from .hub import sha256_of
from .latest import find_resumable_checkpoint
from .layouts import CLASSIFIER_KEYS, fit_state_dict, flat_state_dict
from .mismatch import Mismatch
from .pretrained import load_pretrained_vit
from .safe import (
    CheckpointError,
    DownloadError,
    allow_mmengine_checkpoints,
    load_safely,
    verify_checkpoint,
)
from .sources import install
from .weights import load_weights

__all__ = [
    'ATOMIC_BACKEND',
    'CLASSIFIER_KEYS',
    'CheckpointError',
    'DownloadError',
    'Mismatch',
    'allow_mmengine_checkpoints',
    'find_resumable_checkpoint',
    'fit_state_dict',
    'flat_state_dict',
    'install',
    'load_pretrained_vit',
    'load_safely',
    'load_weights',
    'published',
    'replaced',
    'sha256_of',
    'to_mmdet2',
    'to_mmengine',
    'verify_checkpoint',
]
