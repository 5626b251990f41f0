"""Runs a tool and kills it, as a crash would: ``kill_at.py MOMENT TOOL [arguments]``.

Moments: ``iteration`` (in the middle of the second epoch), ``save`` (half of ``epoch_2.pth`` is
written), ``worker`` (a data loader worker dies instead), ``rank1`` (process 1 of several dies, in
training or evaluation).
"""

import builtins
import os
import runpy
import signal
import sys
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

moment = sys.argv[1]


def kill(pid=None):
    os.kill(pid or os.getpid(), signal.SIGKILL)


class Kill(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, *args, **kwargs):
        if moment == 'iteration' and runner.iter == 4:
            kill()
        if moment == 'rank1' and os.environ['RANK'] == '1':
            kill()
        if moment == 'worker' and runner.iter == 0:
            children = Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children')
            kill(int(children.read_text().split()[0]))

    def after_test_iter(self, runner, *args, **kwargs):
        if moment == 'rank1' and os.environ['RANK'] == '1':
            kill()


class HalfWritten:
    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        kill()


open_file = builtins.open


def open_and_kill(path, mode='r', *args, **kwargs):
    file = open_file(path, mode, *args, **kwargs)
    return HalfWritten(file) if mode == 'wb' and 'epoch_2' in str(path) else file


register_hooks = Runner.register_hooks


def register_hooks_and_kill(self, *args, **kwargs):
    register_hooks(self, *args, **kwargs)
    self.register_hook(Kill())


Runner.register_hooks = register_hooks_and_kill
if moment == 'save':
    builtins.open = open_and_kill
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
