"""Inference in half precision without autocast's casts.

Under autocast every weight is cast by an operation of its own, norms run and answer in float32, and
so does the residual stream. In inference a module may instead run as if it were of the dtype that
autocast asks for: all its parameters are cast at once, anew in each call, so that nothing derived
from a parameter outlives the call.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Held while a module's parameters are exchanged.
_running = threading.Lock()
#: Numbers that a tensor's beginning in memory is a multiple of: 16 bytes in half precision.
_ALIGNED = 8


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """What autocast casts to on a device; None where it is off."""
    enabled = torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if enabled else None


@contextlib.contextmanager
def as_half(module: nn.Module, x: Tensor, keep: Collection[nn.Parameter] = ()) -> Iterator[Tensor]:
    """Run a module in the dtype of autocast; does nothing in training or outside of autocast.

    Batch norms keep their dtype: they take half precision as it is.

    Args:
        module (nn.Module): Its parameters are of that dtype inside, and autocast is off.
        x (Tensor): Its input, ``(B, C, H, W)``.
        keep (Collection[nn.Parameter]): Parameters that keep their dtype. Default: none.

    Yields:
        Tensor: The input to take inside.
    """
    dtype = autocast_dtype(x.device.type)
    # One thread at a time: another one of the same model goes the way of autocast.
    can = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if dtype is None or not can or not _running.acquire(blocking=False):
        yield x
        return
    try:
        places = _places(module, set(map(id, keep)))
        halves = cast_together([parameter for _, _, parameter in places], dtype)
        try:
            for (parameters, name, _), half in zip(places, halves, strict=True):
                parameters[name] = half
            with torch.autocast(x.device.type, enabled=False):
                yield x.to(dtype, memory_format=torch.channels_last)
        finally:
            for parameters, name, parameter in places:
                parameters[name] = parameter
    finally:
        _running.release()


def _places(module: nn.Module, kept: set[int]) -> list[tuple[dict, str, nn.Parameter]]:
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
    found: dict[tuple[int, str], tuple[dict, str, nn.Parameter]] = {}
    for parameters, name in together + rest:
        parameter = parameters.get(name)
        if parameter is not None and id(parameter) not in kept:
            found.setdefault((id(parameters), name), (parameters, name, parameter))
    return list(found.values())


def cast_together(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
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
    torch._foreach_copy_(copies, tensors)
    return copies


def _contiguous_strides(tensor: Tensor) -> tuple[int, ...]:
    return tensor.stride() if tensor.is_contiguous() else tensor.new_empty(tensor.shape).stride()


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """``torch.cat``; a view of tensors that lie one after another, as :func:`as_half` puts them."""
    if torch.compiler.is_compiling():  # which sees no memory
        return torch.cat(list(tensors))
    first = tensors[0]
    end = first.storage_offset()
    for tensor in tensors:
        is_next = tensor.storage_offset() == end and tensor.is_contiguous()
        if not is_next or tensor.untyped_storage()._cdata != first.untyped_storage()._cdata:
            return torch.cat(list(tensors))
        end += tensor.numel()
    return first.as_strided((sum(map(len, tensors)), *first.shape[1:]), first.stride())
