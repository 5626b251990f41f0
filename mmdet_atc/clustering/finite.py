"""Refusing NaN, Inf and too large numbers: in the call, or later where the host should not wait."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

#: ``1``: wait for the device and raise in the call; ``0``: do not look. Unset: raise later.
ENVIRONMENT = 'MMDET_ATC_CHECK_FINITE'


class NonFiniteError(ValueError):
    """Numbers that have to be finite are not; the message says where and in which image."""


def require_finite(x: Tensor, name: str, limit: float) -> None:
    """Raise if a batch holds NaN, Inf or too large a number; waits for its device.

    Args:
        x (Tensor): ``(B, ...)``, float.
        name (str): What to call it.
        limit (float): What all magnitudes have to be below.

    Raises:
        NonFiniteError: Names the images.
    """
    _refuse(_finite_images(x, limit), name, limit)


def require_finite_on_device(x: Tensor, name: str, limit: float, check: bool | None) -> None:
    """The same for work that is queued on a CUDA device: the host waits only if asked to.

    By default the answer is copied to the host behind the queued work, and raised by the first
    later call that finds it there. Nothing is checked while a CUDA graph is captured, since a
    replay runs no host code.

    Args:
        x (Tensor): ``(B, ...)``, float, CUDA.
        name (str): What to call it.
        limit (float): What all magnitudes have to be below.
        check (bool | None): True raises in this call, False does not look, None asks the
            environment (``MMDET_ATC_CHECK_FINITE``) and, if that is not set, raises later.

    Raises:
        NonFiniteError: If this batch (``check=True``) or an earlier one is not finite.
    """
    if torch.cuda.is_current_stream_capturing():
        return
    _answers.raise_known()
    check = _from_environment() if check is None else check
    if check:
        require_finite(x, name, limit)
    elif check is None:
        _answers.ask(x, name, limit)


def _from_environment() -> bool | None:
    value = os.environ.get(ENVIRONMENT, '')
    if value not in ('', '0', '1'):
        raise ValueError(f'{ENVIRONMENT} must be 0, 1 or not set, got {value!r}')
    return bool(int(value)) if value else None


def _finite_images(x: Tensor, limit: float) -> Tensor:
    return (x.abs() < limit).flatten(1).all(dim=1)  # NaN is not below anything


def _refuse(finite: Tensor, name: str, limit: float, hint: str = '') -> None:
    if not finite.all():
        bad = torch.nonzero(~finite).flatten().tolist()
        raise NonFiniteError(
            f'{name} must be finite, but image(s) {bad} of the batch hold NaN, Inf or numbers of '
            f'{limit:.2g} and more{hint}'
        )


def _to_host(flags: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """Where flags on a device are copied to behind its queued work, and when they are there."""
    with torch.cuda.device(flags.device):
        copy = torch.empty(len(flags), dtype=torch.bool, pin_memory=True)
        copy.copy_(flags, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
    return copy, arrived


@dataclass(frozen=True, eq=False)
class _Answer:
    """Flags ``(B,)`` in host memory, valid once the event has passed."""

    finite: Tensor
    name: str
    limit: float
    arrived: torch.cuda.Event


class _Answers:
    """Answers on their way from the device, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[_Answer] = []
        self._lock = threading.Lock()

    def ask(self, x: Tensor, name: str, limit: float) -> None:
        finite, arrived = _to_host(_finite_images(x, limit))
        with self._lock:
            self._waiting.append(_Answer(finite, name, limit, arrived))

    def raise_known(self) -> None:
        with self._lock:
            known = [answer for answer in self._waiting if answer.arrived.query()]
            self._waiting = [answer for answer in self._waiting if answer not in known]
        for answer in known:
            _refuse(
                answer.finite,
                answer.name,
                answer.limit,
                f' (in an earlier call; with {ENVIRONMENT}=1 the call itself raises)',
            )


_answers = _Answers()
