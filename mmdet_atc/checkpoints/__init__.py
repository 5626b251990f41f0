"""Checkpoints: what may be unpickled, where they come from, how they fit a backbone."""

from . import hub_scheme, local_scheme, timm_scheme  # noqa: F401
from .atomic import ATOMIC_BACKEND, replaced
from .convert import published, to_mmdet2, to_mmengine
from .digests import sha256_of
from .errors import CheckpointError, DownloadError
from .latest import find_resumable_checkpoint
from .layouts import CLASSIFIER_KEYS, fit_state_dict, flat_state_dict
from .mismatch import Mismatch
from .pretrained import load_pretrained_vit
from .safe_globals import allow_mmengine_checkpoints, load_safely
from .safe_loading import verify_checkpoint
from .weights import load_weights

allow_mmengine_checkpoints()

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
