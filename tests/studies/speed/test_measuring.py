"""The measuring tools measure."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from mmdet_atc.studies.speed import PeakMemory, interleaved_times
from mmdet_atc.studies.speed.inputs import default_batch_sizes
from mmdet_atc.studies.speed.measure import Row

CPU = torch.device('cpu')


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='needs Linux /proc')
def test_peak_memory_sees_what_was_freed_again():
    with PeakMemory(CPU) as memory:
        torch.ones(64 * 2**20, dtype=torch.uint8)
    assert memory.mebibytes is not None
    assert 60 < memory.mebibytes < 100
    with PeakMemory(CPU) as memory:
        torch.ones(8)
    assert memory.mebibytes is not None
    assert memory.mebibytes < 30


def test_functions_take_turns_and_warm_up_is_not_counted():
    calls = []
    told = []

    def slow():
        calls.append('slow')
        time.sleep(0.02)

    times = interleaved_times(
        dict(slow=slow, quick=lambda: calls.append('quick')),
        repeats=3,
        device=CPU,
        warm_up=2,
        on_call=lambda: told.append(len(calls)),
    )
    assert calls == ['slow', 'quick'] * 5
    assert told == [*range(1, 11)]
    assert [len(values) for values in times.values()] == [3, 3]
    assert min(times['slow']) >= 0.02 > max(times['quick'])


def test_a_speed_up_is_the_median_of_paired_calls():
    base = Row('base', 1, [1], seconds=dict(backbone=[2.0, 20.0, 3.0]))
    row = Row('row', 1, [1], seconds=dict(backbone=[1.0, 10.0, 1.0]))
    assert row.speed_up(base, 'backbone') == 2
    assert base.speed_up(base, 'backbone') == 1


@pytest.mark.parametrize(('device', 'sizes'), [('cpu', [1]), ('cuda:0', [1, 8])])
def test_an_accelerator_gets_large_batches_too(device, sizes):
    assert default_batch_sizes(torch.device(device)) == sizes
