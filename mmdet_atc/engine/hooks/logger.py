"""Figures of a distributed test in one piece."""

from __future__ import annotations

from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class MainProcessLoggerHook(LoggerHook):
    """MMEngine's hook, but only the main process writes the figures of a test to their file.

    In MMEngine all processes write that file at once. They agree on the figures, but not on the
    times beside them, so that the end of a longer text may be left behind a shorter one, and the
    file is no JSON any more. Arguments are those of ``LoggerHook``.
    """

    after_test_epoch = master_only(LoggerHook.after_test_epoch)
