#!/usr/bin/env python
"""``torchrun``, of which a run that fails shows one line: ``tools/torchrun.py [its arguments]``."""

# ruff: noqa: E402
import logging
import sys

sys.stderr.write('Starting torchrun ...\n')
sys.stderr.flush()  # loading PyTorch takes seconds

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main

PEER = 'another process of this run has ended'


def reason(rank: int, failure: ProcessFailure) -> str:
    """What ended a process: its own line (``faults_in_one_line``), a signal, or a traceback."""
    said = str(failure.message)
    if said.startswith('error: '):
        return said
    if failure.exitcode < 0:
        return (
            f'error: process {rank} was ended by {failure.signal_name()}, if by SIGKILL mostly for '
            'lack of memory; training continues with --resume'
        )
    return f'error: process {rank} ended with status {failure.exitcode}, see its traceback'


if __name__ == '__main__':
    logging.disable(logging.ERROR)  # what a process says of its end is enough
    try:
        main()
    except ChildFailedError as error:
        # What lost its peer ended after it, if in the same second.
        failures = error.failures.items()
        first = min(failures, key=lambda item: (PEER in str(item[1].message), item[1].timestamp))
        sys.exit(reason(*first))
    except SignalException as error:
        sys.exit(f'ended by {error.sigval.name}')
    except (DistError, ValueError) as error:
        sys.exit(f'error: {str(error).splitlines()[0]}')
