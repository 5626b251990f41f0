"""Hooks of a run: checkpoints, randomness, numbers that are finite, logs."""

from .atomic_checkpoint import AtomicCheckpointHook
from .checkpoint_fit import CheckpointFitHook
from .epoch_seed import EpochSeedHook, seed_worker
from .finite_check import FiniteCheckHook
from .logger import MainProcessLoggerHook
from .warm_up import WarmUpCheckHook

__all__ = [
    'AtomicCheckpointHook',
    'CheckpointFitHook',
    'EpochSeedHook',
    'FiniteCheckHook',
    'MainProcessLoggerHook',
    'WarmUpCheckHook',
    'seed_worker',
]
