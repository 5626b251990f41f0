"""Times of several functions that take turns, so that drifts of the machine hit all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch


def synchronize(device: torch.device) -> None:
    """Wait for the device's queued work, if it queues any."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def interleaved_times(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    warm_up: int = 1,
    on_call: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Call each function in turn, round by round.

    Args:
        functions (Mapping[str, Callable]): What to time, by name.
        repeats (int): Measured rounds.
        device (torch.device): Waited for before and after each call.
        warm_up (int): Rounds before the measured ones. Default: 1.
        on_call (Callable): Called after every call, outside its time. Default: nothing.

    Returns:
        dict[str, list[float]]: Seconds of each measured call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(warm_up + repeats):
        for name, function in functions.items():
            synchronize(device)
            start = time.perf_counter()
            function()
            synchronize(device)
            if index >= warm_up:
                times[name].append(time.perf_counter() - start)
            on_call()
    return times


def as_graph(function: Callable[[], object]) -> Callable[[], None]:
    """A function as a CUDA graph, captured after three calls, with which libraries choose kernels.

    Args:
        function (Callable): Queues work on the current device and waits for nothing.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay
