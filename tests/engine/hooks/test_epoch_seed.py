"""Random numbers are those of the epoch or iteration; workers end with whom they work for."""

from __future__ import annotations

import os
import random
import signal
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmdet.datasets import AspectRatioBatchSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader

from mmdet_atc.engine import EpochSeedHook, seed_worker


def test_a_worker_whose_parent_is_killed_ends():
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            seed_worker(0)
            os.write(writer, b'started')
            time.sleep(60)
        time.sleep(60)
    os.close(writer)
    assert os.read(reader, 7) == b'started'
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    start = time.monotonic()
    assert os.read(reader, 1) == b''  # the pipe closes when its last writer has ended
    assert time.monotonic() - start < 10


def drawn() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()


def runner(
    loop: type = IterBasedTrainLoop,
    sampler: type = InfiniteSampler,
    workers: int = 2,
    batch_sampler: type = AspectRatioBatchSampler,
):
    batches = batch_sampler(sampler(range(4)), 2, False)
    loader = DataLoader(range(4), num_workers=workers, batch_sampler=batches)
    return SimpleNamespace(
        seed=3, epoch=0, iter=0, train_loop=Mock(spec=loop), train_dataloader=loader, logger=Mock()
    )


def numbers(run, first: int, last: int) -> list[tuple]:
    """What the iterations of a run draw that begins with ``first``."""
    hook, found = EpochSeedHook(), []
    hook.before_train_epoch(run)
    for run.iter in range(first, last):
        hook.before_train_iter(run, run.iter)
        found.append(drawn())
        drawn()
    return found


def test_iterations_draw_the_same_wherever_a_run_begins():
    whole = numbers(runner(), 0, 6)
    assert len(set(whole)) == 6
    assert numbers(runner(), 4, 6) == whole[4:]


def test_within_an_epoch_numbers_go_on():
    hook, run = EpochSeedHook(), runner(EpochBasedTrainLoop)
    hook.before_train_epoch(run)
    torch.rand(1)
    state = torch.get_rng_state()
    hook.before_train_iter(run, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ('changes', 'warned'),
    [
        (dict(), False),
        (dict(batch_sampler=BatchSampler), False),
        (dict(workers=0), True),
        (dict(sampler=DefaultSampler), True),
        (dict(loop=EpochBasedTrainLoop, sampler=DefaultSampler, workers=0), False),
    ],
)
def test_what_does_not_resume_alike_is_said(changes, warned):
    run = runner(**changes)
    EpochSeedHook().before_train(run)
    assert run.logger.warning.called == warned
