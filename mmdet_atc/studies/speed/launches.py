"""What a piece of code asks of a device: how many kernels, and how many bytes they move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations that start nothing: views, allocations, questions.
FREE = frozenset(
    """view t transpose permute expand select slice split split_with_sizes unbind detach alias
    as_strided unsqueeze squeeze empty empty_like empty_strided empty_permuted new_empty
    new_empty_strided _unsafe_view device promote_types _reshape_alias lift_fresh""".split()  # noqa: SIM905
)
#: Operations of ours that start more than one kernel.
KERNELS = {'segment_sum': 2, 'depthwise_gelu': 2}


class Launches(TorchDispatchMode):
    """Counts every operation that is not :data:`FREE` as one launch.

    Args:
        stage (Callable): Names what runs now, which is counted apart. Default: one name for all.

    Attributes:
        counts (Counter): Launches by operation.
        bytes (Counter): Bytes of the tensors that operations read and write, each once, by
            operation.
        stages (dict): The sums of both by stage.
    """

    def __init__(self, stage: Callable[[], str] = lambda: '') -> None:
        super().__init__()
        self.stage = stage
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.stages: dict[str, tuple[int, int]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.name().split('::')[1].split('.')[0]
        if name not in FREE:
            self.add(name, args, kwargs, out)
        return out

    def add(self, name: str, *tensors: object) -> None:
        """Count an operation on some tensors."""
        launches = KERNELS.get(name, 1)
        found = {id(x): x for x in tree_leaves(tensors) if isinstance(x, Tensor)}
        moved = sum(x.numel() * x.element_size() for x in found.values())
        self.counts[name] += launches
        self.bytes[name] += moved
        before = self.stages.get(self.stage(), (0, 0))
        self.stages[self.stage()] = before[0] + launches, before[1] + moved


def kernels_started(function: Callable[[], object]) -> int:
    """Kernels and copies that a call starts on a CUDA device, as its profiler counts them."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    return sum(event.count for event in profiler.key_averages() if event.self_device_time_total)
