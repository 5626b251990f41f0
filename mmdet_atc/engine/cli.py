"""The command line of the tools: shared flags, types of arguments, faults in one line."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from mmengine.config import DictAction

from mmdet_atc.backbones import NonFiniteError
from mmdet_atc.checkpoints import CheckpointError
from mmdet_atc.datasets import DataError

#: Raised where something outside the program is at fault.
FAULTS = (DataError, NonFiniteError, OSError)
#: Data loader workers send their traceback as the message.
_FROM_WORKER = re.compile(r'Caught \w+ in DataLoader worker process')
_QUALIFIED_NAME = re.compile(r'^[\w.]+: ')
_WORKER_DIED = re.compile(r'DataLoader worker \(pid[^)]*\)')
#: What gloo and nccl say when the process at the other end is gone.
_PEER_DIED = re.compile(
    r'gloo.*(?:closed by peer|reset by peer|Broken pipe|Timed out)|remote process exited', re.S
)
#: An argument that a class does not have, a type that no registry has, a value below a number.
_MISSPELT = re.compile(
    r'unexpected keyword argument|is not in the \S+ registry|in child config cannot inherit|'
    r'exceeds the length of list'
)


class RunParser(argparse.ArgumentParser):
    """Parser with the flags that ``tools/train.py`` and ``tools/test.py`` share.

    Args:
        description (str): What the tool does.
        example (str): An override that is often needed, for the help.
    """

    def __init__(self, description: str, example: str) -> None:
        super().__init__(description=description)
        self.add_argument('config', help='config file')
        self.add_argument('--work-dir', help='folder for logs, figures and checkpoints')
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action=DictAction,
            metavar='KEY=VALUE',
            help=f'override config values, for example {example}',
        )
        self.add_argument(
            '--limit-images',
            type=positive_int,
            metavar='N',
            help='the first N images of each data set only, evaluated by these alone',
        )
        self.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
        # torch.distributed.launch passes it beside the variable of that name, which is read.
        self.add_argument('--local_rank', '--local-rank', type=int)


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


@contextmanager
def faults_in_one_line(mistakes: bool = False) -> Iterator[None]:
    """Exit with status 1 and ``error: <what, where, what to do>`` on a fault of files or processes.

    Only a checkpoint that does not fit the model takes more lines, one for each part that differs.

    Args:
        mistakes (bool): Also on values that a class refuses, arguments that it does not have, and
            unknown types: around what the user's config or command line decides. Elsewhere such
            errors are mistakes in the program, which show their traceback. Default: False.
    """
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        message = _message(error, mistakes)
        if message is None:
            raise
        _end(message)


def _end(message: str) -> NoReturn:
    """Exit with a message; under torchrun by its error file, which it reports once for all."""
    report = os.environ.get('TORCHELASTIC_ERROR_FILE')
    line = f'error: {message}'
    if report is None:
        sys.exit(line)
    with open(report, 'w') as file:
        json.dump(dict(message=line, timestamp=int(time.time())), file)
    sys.exit(1)


def _message(error: BaseException, mistakes: bool) -> str | None:
    """What to say of an error, None where it is a mistake in the program."""
    # The text of a KeyError is quoted, line breaks and all.
    text = str(ValueError(*error.args) if isinstance(error, KeyError) else error)
    lines = text.strip().splitlines() or [type(error).__name__]
    first = lines[0]
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted; a run of training continues with --resume'
    if isinstance(error, CheckpointError):
        return text
    if isinstance(error, RuntimeError) and _WORKER_DIED.match(text):
        return (
            f'{first} A process that loads data died: out of memory or shared memory? Training '
            'continues with --resume, if need be with fewer *_dataloader.num_workers'
        )
    if isinstance(error, RuntimeError) and _PEER_DIED.search(text):
        return (
            'another process of this run has ended, see its message or, if it has none, whether '
            f'it was killed; training continues with --resume ({first})'
        )
    is_mistake = mistakes and (isinstance(error, ValueError) or _MISSPELT.search(text))
    if not isinstance(error, FAULTS) and not is_mistake:
        return None
    return _QUALIFIED_NAME.sub('', lines[-1]) if _FROM_WORKER.match(first) else first
