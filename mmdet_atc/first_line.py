"""A tool says within a second that it has begun: PyTorch and MMDetection take several to load."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .shipped import SCRIPTS, shipped


def say_that_a_tool_loads() -> None:
    """One line to the standard error of a tool, of several processes by the first alone."""
    module, command = sys.orig_argv[1:3], sys.orig_argv[3:4]
    is_module = module == ['-m', 'mmdet_atc'] and set(command) <= set(SCRIPTS)
    folders = {shipped('tools'), shipped('demo')}
    is_tool = not folders.isdisjoint(Path(os.path.abspath(sys.argv[0])).parents)
    if (is_tool or is_module) and os.environ.get('LOCAL_RANK', '0') == '0':
        sys.stderr.write('Loading PyTorch and MMDetection, some seconds ...\n')
        sys.stderr.flush()
