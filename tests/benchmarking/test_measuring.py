"""The measuring tools measure."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from mmdet_atc.benchmarking import PeakMemory, interleaved_times
from mmdet_atc.benchmarking.measure import Row

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

    def slow():
        calls.append('slow')
        time.sleep(0.02)

    times = interleaved_times(
        dict(slow=slow, quick=lambda: calls.append('quick')), repeats=3, device=CPU, warm_up=2
    )
    assert calls == ['slow', 'quick'] * 5
    assert [len(values) for values in times.values()] == [3, 3]
    assert min(times['slow']) >= 0.02 > max(times['quick'])


def test_a_speed_up_is_the_median_of_paired_calls():
    base = Row('base', 1, [1], seconds=dict(backbone=[2.0, 20.0, 3.0]))
    row = Row('row', 1, [1], seconds=dict(backbone=[1.0, 10.0, 1.0]))
    assert row.speed_up(base, 'backbone') == 2
    assert base.speed_up(base, 'backbone') == 1
