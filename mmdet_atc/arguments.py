"""Checks of constructor arguments: a mistake in a config is one line, not a failing layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def check_counts(least: int = 1, /, **arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is no integer from ``least`` on."""
    rule = 'a positive integer' if least == 1 else f'an integer of at least {least}'
    for name, value in arguments.items():
        if not is_integer(value) or value < least:
            raise ValueError(f'{name} must be {rule}, got {value!r}')


def check_bools(**arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is not a bool.

    ``--cfg-options switch=no`` gives the string ``'no'``, which counts as true.
    """
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')


def check_ratios(channels: int, **arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which leaves none of ``channels``."""
    for name, value in arguments.items():
        if not _is_number(value) or int(value * channels) < 1:
            raise ValueError(
                f'{name} must be a number that leaves at least one of {channels} channels, '
                f'got {value!r}'
            )


def check_shares(**arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is not in (0, 1]."""
    for name, value in arguments.items():
        if not _is_number(value) or not 0 < value <= 1:
            raise ValueError(f'{name} must be in (0, 1], got {value!r}')


def check_drop_rate(**arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is not in [0, 1)."""
    for name, value in arguments.items():
        if not _is_number(value) or not 0 <= value < 1:
            raise ValueError(f'{name} must be in [0, 1), got {value!r}')


def check_finite(**arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is not a finite number."""
    for name, value in arguments.items():
        if not _is_number(value):
            raise ValueError(f'{name} must be a finite number, got {value!r}')


def check_up_to(most: int, **arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is no integer in 0..``most``."""
    for name, value in arguments.items():
        if not is_integer(value) or not 0 <= value <= most:
            raise ValueError(f'{name} must be an integer in 0..{most}, got {value!r}')


def check_choice(choices: Sequence[Any], **arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which is none of ``choices``."""
    for name, value in arguments.items():
        if value not in choices:
            raise ValueError(f'{name} must be one of {tuple(choices)}, got {value!r}')


def check_increasing(what: str, most: int | None, **arguments: Any) -> None:
    """Raise ``ValueError`` that names the first argument which are no increasing indices.

    Args:
        what (str): What they are indices of, in the singular.
        most (int, optional): The last index that there is; None is any.
        **arguments: Sequences of at least one index.
    """
    rule = 'from 0 on' if most is None else f'in 0..{most}'
    for name, values in arguments.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise ValueError(f'{name} must be a list of {what} indices, got {values!r}')
        for value in values:
            if not is_integer(value) or value < 0 or (most is not None and value > most):
                raise ValueError(f'{name} must be {what} indices {rule}, got {value!r}')
        if list(values) != sorted(set(values)):
            raise ValueError(f'{name} must be increasing without repetition, got {tuple(values)}')


def is_integer(value: Any) -> bool:
    """Whether it is a whole number, numpy's too, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
