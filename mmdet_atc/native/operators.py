"""Operators of our own: torch traces and differentiates them; elsewhere they are functions.

torch takes some 8 us to call an operator written in Python, as long as a small kernel runs. Where
nothing observes the call, its function is called directly.
"""

from __future__ import annotations

from collections.abc import Callable

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
        self.register_fake = self._traced.register_fake
        self.register_autograd = self._traced.register_autograd

    def __call__(self, *args):
        """The results, on an autograd graph where a gradient is registered and asked for."""
        function = self._functions.get(args[0].device.type, self._functions.get(None))
        if function is None or torch.is_grad_enabled() or _is_observed(args):
            return self._traced(*args)
        return function(*args)

    def register_kernel(self, device: str) -> Callable[[Callable], Callable]:
        """Decorates a function that computes the same on another type of devices."""

        def register(function: Callable) -> Callable:
            self._functions[device] = function
            return self._traced.register_kernel(device)(function)

        return register


def operator(name: str, schema: str, device: str | None = None) -> Callable[[Callable], Operator]:
    """Decorates a function that is to be an :class:`Operator`; arguments as there."""
    return lambda function: Operator(name, schema, function, device)


def _is_observed(args: tuple) -> bool:
    """Whether a call is compiled, traced, transformed, or of tensors that hold no numbers."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or any(isinstance(x, Tensor) and type(x) not in (Tensor, nn.Parameter) for x in args)
    )
