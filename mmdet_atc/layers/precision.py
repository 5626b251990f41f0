"""Inference in half precision without autocast's casts.

Under autocast every weight is cast by an operation of its own, norms run and answer in float32, and
so does the residual stream. In inference a module may instead run as if it were of the dtype that
autocast asks for: all its parameters are cast at once, anew in each call, so that nothing derived
from a parameter outlives the call.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Held while a module's parameters are exchanged.
_running = threading.Lock()


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
    can = dtype is not None and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if not can or not _running.acquire(blocking=False):
        yield x
        return
    try:
        kept = set(map(id, keep))
        places = [
            (owner._parameters, name, parameter)
            for owner in module.modules()
            if not isinstance(owner, _BatchNorm)
            for name, parameter in owner._parameters.items()
            if parameter is not None and id(parameter) not in kept
        ]
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


def cast_together(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Tensors in another dtype, by a few operations for all of them."""
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(copies, [tensor.detach() for tensor in tensors])
    return copies
