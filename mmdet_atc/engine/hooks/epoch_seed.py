"""Randomness that depends on the epoch and not on how training got there."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import Runner

from .orphans import end_with_parent


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds all generators from (seed of the run, epoch, rank) before each training epoch.

    MMEngine does not save the state of random generators, so a resumed run would augment and
    sample otherwise than an uninterrupted one. With this hook, and data loader workers that are
    started anew each epoch with :func:`seed_worker`, both see the same numbers.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        entropy = [runner.seed, runner.epoch, get_rank()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed a data loader worker's generators from torch's seed, which differs by worker.

    Torch draws that seed from the main process when the worker starts, that is after
    :class:`EpochSeedHook`. The worker ends with the main process.
    """
    end_with_parent()
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
