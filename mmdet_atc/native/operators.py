"""Operators of our own, which torch traces, exports and counts; plain functions where it does not.

torch takes longer to call an operator that is written in Python, 0.15 ms on the host of an H100,
than most of them run. Where nothing looks on they are called, and differentiated, as functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Operator:
    """What :func:`operator` makes of a function.

    Args:
        name (str): Its name with a namespace.
        schema (str): Arguments and results.
        function (Callable): What it computes; its results share no memory with each other or with
            its arguments, the first of which is a tensor.
        device (str, optional): Type of the devices that the function is for; None is all.
    """

    def __init__(self, name: str, schema: str, function: Callable, device: str | None) -> None:
        self._traced = torch.library.custom_op(
            name, function, mutates_args=(), device_types=device, schema=schema
        )
        self._functions = {device: function}
        self._gradients: dict[Callable, Any] = {}
        self._formula: tuple[Callable, Callable] | None = None

    def __call__(self, *args):
        """The results, on an autograd graph where a gradient is registered and asked for."""
        tensors = [x for x in args if isinstance(x, Tensor)]
        function = self._functions.get(tensors[0].device.type, self._functions.get(None))
        if function is None or _is_looked_on(tensors):
            return self._traced(*args)
        if self._formula is None or not torch.is_grad_enabled():
            return function(*args)
        if not any(x.requires_grad for x in tensors):
            return function(*args)
        return self._gradients[function].apply(*args)

    def register_kernel(self, device: str) -> Callable[[Callable], Callable]:
        """Decorates a function that computes the same on another type of devices."""

        def register(function: Callable) -> Callable:
            self._functions[device] = function
            return self._traced.register_kernel(device)(function)

        return register

    def register_fake(self, function: Callable) -> Callable:
        """Decorates a function that returns empty results, for tracing."""
        return self._traced.register_fake(function)

    def register_autograd(self, backward: Callable, setup_context: Callable) -> None:
        """Give it a gradient, as :meth:`torch.library.CustomOpDef.register_autograd`."""
        self._traced.register_autograd(backward, setup_context=setup_context)
        self._formula = backward, setup_context
        for function in self._functions.values():
            parts = dict(forward=function, setup_context=setup_context, backward=backward)
            self._gradients[function] = type(
                function.__name__,
                (torch.autograd.Function,),
                {name: staticmethod(part) for name, part in parts.items()},
            )


def operator(name: str, schema: str, device: str | None = None) -> Callable[[Callable], Operator]:
    """Decorates a function that is to be an :class:`Operator`; arguments as there."""
    return lambda function: Operator(name, schema, function, device)


def _is_looked_on(tensors: list[Tensor]) -> bool:
    """Whether a call is compiled, traced, transformed, or of tensors that hold no numbers."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or any(type(x) not in (Tensor, nn.Parameter) for x in tensors)
    )
