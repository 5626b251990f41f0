"""Randomness that depends on the epoch or iteration and not on how training got there."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner, set_random_seed

_SECONDS_BETWEEN_LOOKS = 1.0


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds all generators from (seed of the run, epoch, rank) before each training epoch.

    MMEngine does not save the state of random generators, so a resumed run would augment and
    sample otherwise than an uninterrupted one. With this hook, and data loader workers that are
    started anew each epoch with :func:`seed_worker`, both see the same numbers.

    Training by iterations is one long epoch: there each iteration is seeded, and a resumed run
    loads, in the same order, what it has trained on already. What the main process itself loads,
    or what comes after a finite sampler's end, is not the same then; a warning says so.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        # Where the config has a batch sampler, torch's loader has another, unused sampler beside.
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        alike = loader.num_workers and isinstance(sampler, InfiniteSampler)
        if isinstance(runner.train_loop, IterBasedTrainLoop) and not alike:
            runner.logger.warning(
                'Training by iterations, once resumed, goes on with other random numbers unless '
                "train_dataloader has num_workers of at least 1 and sampler=dict(type='"
                "InfiniteSampler')"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        _seed(runner.seed, runner.epoch, get_rank())

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            _seed(runner.seed, runner.iter, get_rank())


def _seed(*entropy: int) -> None:
    set_random_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed a data loader worker's generators from torch's seed, which differs by worker.

    Torch draws that seed from the main process when the worker starts, that is after
    :class:`EpochSeedHook`. The worker ends soon after the main process has, however that came
    about: torch's workers look after it too, but wait for ever to hand over the samples they have
    already made, if these fill the pipe.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
