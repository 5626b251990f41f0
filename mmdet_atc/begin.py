"""What every tool begins with, before PyTorch and MMDetection are loaded."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from .shipped import SCRIPTS, shipped

#: Shells leave ``--option=~/folder``, and what is quoted, as it is.
_HOME = re.compile(r'^(--?[\w-]+=)?(~(?:/.*)?)$')


def begin() -> None:
    """In a tool, expand ``~`` in its arguments and say, within a second, that it has started.

    Of several processes only the first says so. Other programs, and the processes that a tool
    starts, are left alone.
    """
    module, command = sys.orig_argv[1:3], sys.orig_argv[3:4]
    is_module = module == ['-m', 'mmdet_atc'] and set(command) <= set(SCRIPTS)
    folders = {shipped('tools'), shipped('demo')}
    if '--multiprocessing-fork' in sys.orig_argv:  # how a spawned process begins
        return
    if not is_module and folders.isdisjoint(Path(os.path.abspath(sys.argv[0])).parents):
        return
    sys.argv[1:] = [_HOME.sub(_followed, argument) for argument in sys.argv[1:]]
    if os.environ.get('LOCAL_RANK', '0') == '0':
        sys.stderr.write('Loading PyTorch and MMDetection, some seconds ...\n')
        sys.stderr.flush()


def _followed(match: re.Match[str]) -> str:
    return (match[1] or '') + os.path.expanduser(match[2])
