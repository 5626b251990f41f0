"""A warm-up that a run never leaves."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.optim import ConstantParamScheduler, LinearParamScheduler
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class WarmUpCheckHook(Hook):
    """Warns where training ends before its warm-up does, as recipes of COCO do on few images."""

    def before_train(self, runner: Runner) -> None:
        schedulers = runner.param_schedulers
        groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
        ends = [
            scheduler.end
            for group in groups
            for scheduler in group or ()
            if isinstance(scheduler, (LinearParamScheduler, ConstantParamScheduler))
            and not scheduler.by_epoch
            and scheduler.begin == 0
        ]
        if ends and max(ends) > runner.max_iters:
            runner.logger.warning(
                f'The warm-up takes {max(ends)} iterations, the whole run {runner.max_iters}: '
                'training never reaches its learning rate. Train longer (train_cfg) or set '
                'param_scheduler with an earlier end of the first'
            )
