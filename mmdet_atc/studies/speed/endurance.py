"""What a process holds on to over many forward passes of ever other sizes."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .memory import memory_in_use


@dataclass(frozen=True)
class Held:
    """What a process holds between two passes.

    Args:
        passes (int): Forward passes so far.
        mebibytes (float | None): Resident memory, or on a CUDA device what torch has allocated;
            None where the system does not tell.
        tensors (int): Tensors that Python can reach.
        files (int): Open file descriptors (Linux; 0 elsewhere).
        threads (int): Threads (Linux; 0 elsewhere).
    """

    passes: int
    mebibytes: float | None
    tensors: int
    files: int
    threads: int


def run_and_look(
    forward: Callable[[int, int], object],
    passes: int,
    looks: int,
    sides: range,
    device: torch.device,
) -> Iterator[Held]:
    """Run forward passes of random sizes and look now and then at what the process holds.

    Args:
        forward (Callable): Takes a height and a width in pixels; what it returns is dropped.
        passes (int): Number of passes.
        looks (int): Number of equally long stretches, after each of which is looked.
        sides (range): Heights and widths to choose from, each alone, with a fixed seed.
        device (torch.device): Where the passes run.

    Yields:
        Held: After each stretch.

    Raises:
        ValueError: If ``passes`` is not a positive multiple of ``looks``.
    """
    if looks < 1 or passes < 1 or passes % looks:
        raise ValueError(f'passes must be a positive multiple of {looks=}, got {passes}')
    rng = np.random.default_rng(0)
    for done in range(1, passes + 1):
        height, width = rng.choice(sides, 2).tolist()
        forward(height, width)
        if done % (passes // looks) == 0:
            yield _held(done, device)


def _held(passes: int, device: torch.device) -> Held:
    gc.collect()
    return Held(
        passes,
        memory_in_use(device),
        # By type: looking at an attribute may import what a lazy module stands for.
        sum(
            count
            for kind, count in Counter(map(type, gc.get_objects())).items()
            if issubclass(kind, torch.Tensor)
        ),
        _entries('/proc/self/fd'),
        _entries('/proc/self/task'),
    )


def _entries(folder: str) -> int:
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0
