"""A forward pass as CUDA graphs, one a size: all its kernels start as one.

A graph reads parameters where they lie: optimizers, EMA and ``load_state_dict`` write in place, and
the next replay sees it. Each call checks what a graph cannot see: training mode, hooks on modules,
the addresses of parameters and buffers, and settings. If these have changed, the call runs without
a graph or makes a new one. The host checks while the device replays; a result that must not be used
is computed again.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmdet_atc.arguments import check_counts
from mmdet_atc.layers import autocast_dtype

from .compiled import compile_for_all_sizes

Run = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass
class _Graph:
    replay: Callable[[], None]
    image: Tensor
    outputs: tuple[Tensor, ...]
    #: What it reads, so that the memory is there when it is replayed.
    reads: object

    def run(self, image: Tensor) -> None:
        self.image.copy_(image)
        self.replay()


class CapturedForward:
    """Runs a function of an image through CUDA graphs, where that gives the same.

    A size has its graph from its second call on; the sizes used last are kept. Graphs share their
    memory, and results are copied out of it.

    Args:
        module (nn.Module): Whose parameters and buffers the function reads.
        constants (Callable): Called with the image; returns cached tensors that the graph reads.
            The graph keeps a reference, so that eviction from their cache cannot free them.
        sizes (int): Most graphs to keep.
    """

    def __init__(
        self, module: nn.Module, constants: Callable[[Tensor], object], sizes: int
    ) -> None:
        self.module = module
        self.constants = constants
        self.sizes = sizes
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        self._places: list[int] = []
        self._is_steady = False
        self._pool: Any = None

    def __call__(self, run: Run, image: Tensor, settings: Hashable = ()) -> tuple[Tensor, ...]:
        """``run(image)``; ``settings`` are whatever else the result depends on."""
        if not self._may_capture(image):
            return run(image)
        dtype = autocast_dtype(image.device.type)
        modes = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
        key = (image.shape, image.stride(), image.dtype, image.device, dtype, modes, settings)
        ahead = self._graphs.get(key) if self._is_steady else None
        if ahead is not None:
            ahead.run(image)
        places, reads = self._places_now()
        self._is_steady = bool(places) and places == self._places
        if not places:
            return run(image)
        if not self._is_steady:
            self.forget()
            self._places = places
        if key not in self._graphs:  # libraries choose their kernels in a first call
            self._keep(key, None)
            return run(image)
        graph = self._graphs[key]
        if graph is None:
            try:
                graph = self._captured(run, image, reads)
            except RuntimeError as error:
                warnings.warn(
                    f'the backbone runs without CUDA graphs, capturing one failed: {error}',
                    stacklevel=2,
                )
                self.sizes = 0
                torch.cuda.synchronize(image.device)
                return run(image)
        if graph is not ahead:
            graph.run(image)
        self._keep(key, graph)
        return tuple(output.clone() for output in graph.outputs)

    def forget(self) -> None:
        """Drop all graphs and their memory."""
        self._graphs.clear()
        self._pool = None

    def __deepcopy__(self, memo: dict) -> CapturedForward:
        return CapturedForward(memo.get(id(self.module), self.module), self.constants, self.sizes)

    def __getstate__(self) -> dict:
        return dict(module=self.module, constants=self.constants, sizes=self.sizes)

    def __setstate__(self, state: dict) -> None:
        CapturedForward.__init__(self, **state)

    def _may_capture(self, image: Tensor) -> bool:
        return self.sizes > 0 and not torch.is_grad_enabled() and self._has_graphs(image)

    def _has_graphs(self, image: Tensor) -> bool:
        is_free = not torch.compiler.is_compiling()
        return image.is_cuda and is_free and not torch.cuda.is_current_stream_capturing()

    def _places_now(self) -> tuple[list[int], list[Tensor]]:
        """Addresses of parameters and buffers; none if a part is in training or has hooks.

        ``modules()`` and ``parameters()`` would take longer than the graph itself.
        """
        tensors: list[Tensor] = []
        parts: list[nn.Module | None] = [self.module]
        while parts:
            part = parts.pop()
            if part is None:
                continue
            has_hooks = part._forward_hooks or part._forward_pre_hooks
            if part.training or (has_hooks and part is not self.module):
                return [], []
            parts.extend(part._modules.values())
            for own in (part._parameters, part._buffers):
                tensors += [x for x in own.values() if x is not None]
        return [x.data_ptr() for x in tensors], tensors

    def _keep(self, key: Hashable, graph: _Graph | None) -> None:
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        while len(self._graphs) > self.sizes:
            self._graphs.popitem(last=False)

    def _captured(self, run: Run, image: Tensor, reads: list[Tensor]) -> _Graph:
        with torch.inference_mode(False):  # else it could not be written to later
            static = image.clone()
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = run(static)
        held = [x.untyped_storage() for x in reads], self.constants(image)
        return _Graph(graph.replay, static, outputs, held)


def compiled_forward(
    module: nn.Module, constants: Callable[[Tensor], object], options: dict | None
) -> CapturedForward | None:
    """What the argument ``compile`` of a backbone asks for.

    Args:
        module (nn.Module): The backbone. With a mode of ``torch.compile`` its calls are compiled.
        constants (Callable): As of :class:`CapturedForward`.
        options (dict, optional): ``mode``, and further arguments of that mode.

    Returns:
        CapturedForward, optional: Only for ``mode='reduce-overhead'``.

    Raises:
        ValueError: If the options are no dict with a mode, or a mode has no such argument.
    """
    if options is None:
        module._compiled_call_impl = None  # of an earlier mode, here and below
        return None
    if not isinstance(options, dict) or not isinstance(options.get('mode'), str):
        raise ValueError(
            f"compile must be a dict such as dict(mode='reduce-overhead') or None, got {options!r}"
        )
    mode, rest = options['mode'], {k: v for k, v in options.items() if k != 'mode'}
    if mode != 'reduce-overhead':
        modes = ('default', *torch._inductor.list_mode_options())
        if mode not in modes:
            raise ValueError(f"compile's mode must be one of {modes}, got {mode!r}")
        # With dynamic=None torch would first make a graph for each size, up to its limit.
        if dynamic := rest.pop('dynamic', True):
            compile_for_all_sizes(module, mode=mode, **rest)
        else:
            module.compile(mode=mode, dynamic=dynamic, **rest)
        return None
    sizes = rest.pop('sizes', 16)
    if rest:
        raise ValueError(f"compile with mode='reduce-overhead' takes sizes only, got {rest!r}")
    check_counts(**{'compile.sizes': sizes})
    module._compiled_call_impl = None
    return CapturedForward(module, constants, sizes)
