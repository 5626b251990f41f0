"""Runs a tool and kills it, as a crash would, when it starts its second epoch."""

import os
import runpy
import sys

from mmengine.hooks import Hook
from mmengine.runner import Runner


class Stop(Hook):
    priority = 'LOWEST'

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            os._exit(75)


register_hooks = Runner.register_hooks


def register_hooks_and_stop(self, *args, **kwargs):
    register_hooks(self, *args, **kwargs)
    self.register_hook(Stop())


Runner.register_hooks = register_hooks_and_stop
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
