"""Half precision without autocast's casts.

Under autocast every weight is cast by an operation of its own, norms run and answer in float32, and
so does the residual stream. In inference a module may instead run as if it were of the dtype that
autocast asks for; in training its linear layers' weights, and their gradients, are cast by a few
operations for all. It is done anew in each call, so that nothing derived from a parameter outlives
the call.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

#: Of each module, held while its parameters are exchanged.
_running: weakref.WeakKeyDictionary[nn.Module, threading.Lock] = weakref.WeakKeyDictionary()
#: Tensors that are cast together in training: DDP sends their gradients while others are computed.
_TOGETHER = 24
#: Each copy starts at a multiple of this many elements (16 bytes).
_ALIGNED = 8


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """What autocast casts to on a device; None where it is off."""
    enabled = torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if enabled else None


@contextlib.contextmanager
def as_half(module: nn.Module, x: Tensor, keep: Collection[nn.Parameter] = ()) -> Iterator[Tensor]:
    """Run a module in the dtype of autocast; does nothing outside of autocast.

    Batch norms keep their dtype: they take half precision as it is. Threads may call one module
    side by side, all of them with autocast; meanwhile its parameters are not to be read.

    Args:
        module (nn.Module): In inference its parameters are of that dtype inside, and autocast is
            off. Where gradients are asked for, those of its linear layers are, and autocast stays;
            none where activations are computed again after the block (``with_cp``).
        x (Tensor): Its input, ``(B, C, H, W)``.
        keep (Collection[nn.Parameter]): Parameters that keep their dtype. Default: none.

    Yields:
        Tensor: The input to take inside.
    """
    dtype = autocast_dtype(x.device.type)
    if dtype is None:
        yield x
        return
    running = _running.setdefault(module, threading.Lock())
    if not running.acquire(blocking=False):  # another thread's call; this one goes autocast's way
        yield x
        return
    try:
        if torch.is_grad_enabled():
            with _exchanged(*_cast_linears(module, dtype)):
                yield x
            return
        places = _places(module, set(map(id, keep)))
        halves = cast_together([parameter for _, _, parameter in places], dtype)
        with _exchanged(places, halves), torch.autocast(x.device.type, enabled=False):
            yield x.to(dtype, memory_format=torch.channels_last)
    finally:
        running.release()


_Place = tuple[dict, str, nn.Parameter]


@contextlib.contextmanager
def _exchanged(places: Sequence[_Place], tensors: Sequence[Tensor]) -> Iterator[None]:
    try:
        for (parameters, name, _), tensor in zip(places, tensors, strict=True):
            parameters[name] = tensor
        yield
    finally:
        for parameters, name, parameter in places:
            parameters[name] = parameter


def _cast_linears(module: nn.Module, dtype: torch.dtype) -> tuple[list[_Place], list[Tensor]]:
    """Weights and biases of linear layers, first those that get gradients, and what they become."""
    places: list[_Place] = []
    for owner in module.modules():
        if getattr(owner, 'with_cp', False):
            return [], []
        if isinstance(owner, nn.Linear):
            parameters = owner._parameters
            places += [(parameters, name, x) for name, x in parameters.items() if x is not None]
    places = [place for place in places if place[2].dtype == torch.float32]
    places.sort(key=lambda place: not place[2].requires_grad)
    learned = [x for *_, x in places if x.requires_grad]
    frozen = [x for *_, x in places if not x.requires_grad]
    halves: list[Tensor] = []
    for start in range(0, len(learned), _TOGETHER):
        halves += _CastTogether.apply(dtype, *learned[start : start + _TOGETHER])
    return places, halves + (cast_together(frozen, dtype) if frozen else [])


class _CastTogether(torch.autograd.Function):
    """:func:`cast_together`, and its gradients cast back together."""

    @staticmethod
    def forward(ctx, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(cast_together(tensors, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [grad for grad in grads if grad is not None]
        cast = iter(cast_together(given, torch.float32) if given else [])
        return None, *(None if grad is None else next(cast) for grad in grads)


def _places(module: nn.Module, kept: set[int]) -> list[_Place]:
    """Where parameters are to be exchanged; first those that :func:`joined` joins, in its order."""
    together: list[tuple[dict, str]] = []
    rest: list[tuple[dict, str]] = []
    for owner in module.modules():
        if isinstance(owner, _BatchNorm):
            continue
        rest += [(owner._parameters, name) for name in owner._parameters]
        joined_parts = getattr(type(owner), 'joined_parts', None)  # a module's own takes longer
        if joined_parts is not None:
            together += [
                (part._parameters, name)
                for parts in joined_parts(owner)
                for name in ('weight', 'bias')
                for part in parts
            ]
    found: dict[tuple[int, str], _Place] = {}
    for parameters, name in together + rest:
        parameter = parameters.get(name)
        if parameter is not None and id(parameter) not in kept:
            found.setdefault((id(parameters), name), (parameters, name, parameter))
    return list(found.values())


def cast_together(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Tensors in another dtype, one after another in memory, by a few operations for all.

    No gradient may be asked for.
    """
    lengths = [-(-tensor.numel() // _ALIGNED) * _ALIGNED for tensor in tensors]
    memory = tensors[0].new_empty(sum(lengths), dtype=dtype)
    starts = itertools.accumulate(lengths, initial=0)
    copies = [
        memory.as_strided(tensor.shape, _contiguous_strides(tensor), start)
        for tensor, start in zip(tensors, starts, strict=False)
    ]
    torch._foreach_copy_(copies, list(tensors))
    return copies


def _contiguous_strides(tensor: Tensor) -> tuple[int, ...]:
    return tensor.stride() if tensor.is_contiguous() else tensor.new_empty(tensor.shape).stride()


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """``torch.cat``; a view of tensors that lie one after another, as :func:`as_half` puts them."""
    # A compiler sees no memory, and a view of them all would be one of the first for gradients.
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return torch.cat(list(tensors))
    first = tensors[0]
    end = first.storage_offset()
    for tensor in tensors:
        is_next = tensor.storage_offset() == end and tensor.is_contiguous()
        if not is_next or tensor.untyped_storage()._cdata != first.untyped_storage()._cdata:
            return torch.cat(list(tensors))
        end += tensor.numel()
    return first.as_strided((sum(map(len, tensors)), *first.shape[1:]), first.stride())
