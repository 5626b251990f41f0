"""Refusing NaN and Inf: in the call itself, or later where the host should not wait."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

#: ``1``: wait for the device and raise in the call; ``0``: do not look. Unset: raise later.
ENVIRONMENT = 'MMDET_ATC_CHECK_FINITE'


def require_finite(x: Tensor, name: str) -> None:
    """Raise if a batch holds NaN, Inf or its dtype's largest number; waits for its device.

    Args:
        x (Tensor): ``(B, ...)``, float.
        name (str): What to call it.

    Raises:
        ValueError: Names the images.
    """
    _refuse(_finite_images(x), name)


def require_finite_on_device(x: Tensor, name: str, check: bool | None) -> None:
    """The same for work that is queued on a CUDA device: the host waits only if asked to.

    By default the answer is copied to the host behind the queued work, and raised by the first
    later call that finds it there. Nothing is checked while a CUDA graph is captured, since a
    replay runs no host code.

    Args:
        x (Tensor): ``(B, ...)``, float, CUDA.
        name (str): What to call it.
        check (bool | None): True raises in this call, False does not look, None asks the
            environment (``MMDET_ATC_CHECK_FINITE``) and, if that is not set, raises later.

    Raises:
        ValueError: If this batch (``check=True``) or an earlier one is not finite.
    """
    if torch.cuda.is_current_stream_capturing():
        return
    _answers.raise_known()
    check = _from_environment() if check is None else check
    if check:
        require_finite(x, name)
    elif check is None:
        _answers.ask(x, name)


def _from_environment() -> bool | None:
    value = os.environ.get(ENVIRONMENT, '')
    if value not in ('', '0', '1'):
        raise ValueError(f'{ENVIRONMENT} must be 0, 1 or not set, got {value!r}')
    return bool(int(value)) if value else None


def _finite_images(x: Tensor) -> Tensor:
    # The engines keep the largest number for clusters that are gone. NaN is not below anything.
    return (x.abs() < torch.finfo(x.dtype).max).flatten(1).all(dim=1)


def _refuse(finite: Tensor, name: str, hint: str = '') -> None:
    if not finite.all():
        bad = torch.nonzero(~finite).flatten().tolist()
        raise ValueError(
            f'{name} must be finite, but image(s) {bad} of the batch hold NaN, Inf or the largest '
            f'number of their type{hint}'
        )


@dataclass(frozen=True, eq=False)
class _Answer:
    """Flags ``(B,)`` in host memory, valid once the event has passed."""

    finite: Tensor
    name: str
    arrived: torch.cuda.Event


class _Answers:
    """Answers on their way from the device, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[_Answer] = []
        self._lock = threading.Lock()

    def ask(self, x: Tensor, name: str) -> None:
        with torch.cuda.device(x.device):
            finite = torch.empty(len(x), dtype=torch.bool, pin_memory=True)
            finite.copy_(_finite_images(x), non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        with self._lock:
            self._waiting.append(_Answer(finite, name, arrived))

    def raise_known(self) -> None:
        with self._lock:
            known = [answer for answer in self._waiting if answer.arrived.query()]
            self._waiting = [answer for answer in self._waiting if answer not in known]
        for answer in known:
            _refuse(
                answer.finite,
                answer.name,
                ' (in an earlier call: check_finite=True raises in the call itself)',
            )


_answers = _Answers()
