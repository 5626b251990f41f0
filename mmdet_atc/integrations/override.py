"""One module's method replaced, and put back; one pass of a patched model at a time."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

#: Of each patched model, held during a pass.
_passes: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()


class Override:
    """Stands in the place of a module's method until it is removed.

    A hook would not do: ``torch.compile`` reuses the code of one module for another that differs in
    hooks alone, but not for one that has a method of its own.

    Args:
        module (nn.Module): Whose method.
        name (str): Of the method.
        call (Callable): Called with the method that was there before, and with its arguments.
    """

    def __init__(self, module: nn.Module, name: str, call: Callable) -> None:
        self.module = module
        self.name = name
        self.call: Callable | None = call
        #: What others had put there, for example accelerate.
        self.before = vars(module).get(name)
        vars(module)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.call is None:
            return self.original(*args, **kwargs)
        return self.call(self.original, *args, **kwargs)

    def original(self, *args: Any, **kwargs: Any) -> Any:
        """The method that was there before."""
        if self.before is not None:
            return self.before(*args, **kwargs)
        return getattr(type(self.module), self.name)(self.module, *args, **kwargs)

    def remove(self) -> None:
        """Put back the former method; if others have wrapped this since, pass calls on to it."""
        self.call = None
        if vars(self.module).get(self.name) is self:
            del vars(self.module)[self.name]
            if self.before is not None:
                vars(self.module)[self.name] = self.before


def one_pass_of(model: nn.Module) -> contextlib.AbstractContextManager:
    """Another thread's pass waits: clusters are handed from block to block beside the tokens."""
    if torch.compiler.is_compiling():
        return contextlib.nullcontext()
    return _passes.setdefault(model, threading.RLock())


def is_compiled(model: Any) -> bool:
    """Whether a model or a part of it went through ``torch.compile``."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return any(
        hasattr(module, '_orig_mod') or getattr(module, '_compiled_call_impl', None) is not None
        for module in modules
    )
