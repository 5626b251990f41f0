"""Types of command line arguments, for ``add_argument(type=...)``."""

from __future__ import annotations

import argparse

import torch


def positive_int(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, got {text!r}')
    return value


def usable_device(text: str) -> torch.device:
    """A device that is there: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        argparse.ArgumentTypeError: If it is none, or this machine or build of torch lacks it.
    """
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f'{text!r} cannot be used here: {reason}') from error
    return device
