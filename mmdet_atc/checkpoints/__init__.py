"""Checkpoints: what may be unpickled, where they come from, how they fit a backbone."""

from .atomic import ATOMIC_BACKEND, replaced
from .convert import stripped, to_mmdet2, to_mmengine
from .hub import sha256_of
from .latest import find_resumable_checkpoint
from .layouts import CLASSIFIER_KEYS, fit_state_dict, flat_state_dict
from .mismatch import check_fit, difference, fitted
from .safe import (
    CheckpointError,
    DownloadError,
    load_safely,
    verify_checkpoint,
)
from .sources import install, unnamed_traits
from .vit_layouts import vit_state_dict
from .vit_refusal import why_no_vit

__all__ = [
    'ATOMIC_BACKEND',
    'CLASSIFIER_KEYS',
    'CheckpointError',
    'DownloadError',
    'check_fit',
    'difference',
    'find_resumable_checkpoint',
    'fit_state_dict',
    'fitted',
    'flat_state_dict',
    'install',
    'load_safely',
    'replaced',
    'sha256_of',
    'stripped',
    'to_mmdet2',
    'to_mmengine',
    'unnamed_traits',
    'verify_checkpoint',
    'vit_state_dict',
    'why_no_vit',
]
