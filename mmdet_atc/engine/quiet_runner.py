"""On the screen what a user reads; config, hooks and environment are in the log file alone."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

#: How messages begin that take hundreds of lines, or that only MMEngine's developers can act on.
_FOR_THE_FILE = (
    'Config:\n',
    'Hooks will be executed in the following order',
    f'\n{"-" * 60}\nSystem environment',
    'paramwise_options -- ',
    'Distributed training is not used, all SyncBatchNorm',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)


class QuietRunner(Runner):
    """MMEngine's runner; what :data:`_FOR_THE_FILE` names is not on the screen."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        files = [h.baseFilename for h in logger.handlers if isinstance(h, logging.FileHandler)]
        for handler in logger.handlers:
            if files and not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda r: not r.getMessage().startswith(_FOR_THE_FILE))
        if files:
            logger.info(f'Config, hooks and environment are in {files[0]}')
        return logger
