"""A warm-up that is longer than the run is named before the first iteration."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.optim import LinearLR, MultiStepLR

from mmdet_atc.engine import WarmUpCheckHook


@pytest.mark.parametrize(('end', 'warned'), [(10, False), (187, False), (188, True), (500, True)])
@pytest.mark.parametrize('by_name', [False, True])
def test_a_warm_up_that_is_never_left_is_named(end, warned, by_name):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, by_epoch=False, begin=0, end=end),
        MultiStepLR(optimizer, milestones=[4], by_epoch=True),
    ]
    runner = SimpleNamespace(
        param_schedulers=dict(a=schedulers) if by_name else schedulers,
        max_iters=187,
        logger=Mock(),
    )
    WarmUpCheckHook().before_train(runner)
    assert runner.logger.warning.called == warned
    if warned:
        (message,) = runner.logger.warning.call_args.args
        assert f'takes {end} iterations, the whole run 187' in message


@pytest.mark.parametrize('schedulers', [None, [], {}])
def test_a_run_without_schedules_has_no_warm_up(schedulers):
    runner = SimpleNamespace(param_schedulers=schedulers, max_iters=1, logger=Mock())
    WarmUpCheckHook().before_train(runner)
    assert not runner.logger.warning.called
