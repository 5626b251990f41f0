"""One optimizer step sees the recipe's number of images on any number of processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

#: Arguments that count iterations: of a by-iteration scheduler,
_SCHEDULER_ARGS = ('begin', 'end', 'T_max', 'total_steps', 'step_size', 'milestones', 'periods')
#: of a loop, and of a hook, in training by iterations.
_LOOP_ARGS = ('max_iters', 'val_begin', 'val_interval', 'dynamic_intervals')
_HOOK_ARGS = ('interval', 'save_begin')
#: Where an IterBasedTrainLoop gives none.
_MMENGINE_VAL_INTERVAL = 1000


def set_total_batch_size(cfg: Config, world_size: int) -> None:
    """Accumulate gradients so that ``cfg.total_batch_size`` images make an optimizer step.

    By-iteration schedules (warm-up) count optimizer steps in the recipe but iterations in
    MMEngine, so they are stretched by the same factor; in training by iterations so are its length
    and the intervals of validation and of checkpoints. Nothing changes where the config has no
    ``total_batch_size``, sets ``accumulative_counts`` itself (a warning says so if that makes
    another number of images), or scales the learning rate instead (``auto_scale_lr.enable``).

    Args:
        cfg (Config): Config of a training run, changed in place.
        world_size (int): Number of training processes.

    Raises:
        ValueError: If the total is not a multiple of the images that the processes load at once.
    """
    total = cfg.get('total_batch_size')
    if total is None or (cfg.get('auto_scale_lr') or {}).get('enable', False):
        return
    per_iteration = cfg.train_dataloader.batch_size * world_size
    if 'accumulative_counts' in cfg.optim_wrapper:
        images = cfg.optim_wrapper.accumulative_counts * per_iteration
        if images != total:
            print_log(
                f'An optimizer step sees {images} images, not total_batch_size={total}: the config '
                f'sets optim_wrapper.accumulative_counts={images // per_iteration}. One that a run '
                "has saved is for that run's number of processes: start from the original config",
                logger='current',
                level=logging.WARNING,
            )
        return
    if total % per_iteration:
        raise ValueError(
            f'total_batch_size={total} must be a multiple of train_dataloader.batch_size x '
            f'processes = {cfg.train_dataloader.batch_size} x {world_size}; change one of them '
            'with --cfg-options (total_batch_size=None switches accumulation off)'
        )
    factor = total // per_iteration
    cfg.optim_wrapper.accumulative_counts = factor
    for scheduler in _schedulers(cfg.get('param_scheduler')):
        if not scheduler.get('by_epoch', True):
            _stretch(scheduler, _SCHEDULER_ARGS, factor)
            if str(scheduler['type']).startswith('Exponential'):  # gamma is per iteration
                scheduler['gamma'] **= 1 / factor
    _stretch_loop(cfg, factor)
    if factor > 1:
        print_log(
            f"Accumulating {factor} iterations of {per_iteration} images to the recipe's "
            f'{total} per optimizer step; by-iteration schedules are {factor} times as long',
            logger='current',
        )


def _schedulers(given: Any) -> Iterator[Any]:
    """One, several, or several by optimizer, as MMEngine takes them."""
    if isinstance(given, dict) and 'type' in given:
        yield given
    else:
        parts = given.values() if isinstance(given, dict) else given or ()
        for part in parts:
            yield from _schedulers(part)


def _stretch_loop(cfg: Config, factor: int) -> None:
    """Lengths of training by iterations, which the recipe counts in optimizer steps."""
    loop: Any = cfg.get('train_cfg') or {}
    if loop.get('type') != 'IterBasedTrainLoop' and loop.get('by_epoch', True):
        return
    loop.setdefault('val_interval', _MMENGINE_VAL_INTERVAL)
    _stretch(loop, _LOOP_ARGS, factor)
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint') or {}
    if not checkpoint.get('by_epoch', True):
        _stretch(checkpoint, _HOOK_ARGS, factor)


def _stretch(node: Any, names: tuple[str, ...], factor: int) -> None:
    for name in names:
        if name in node:
            node[name] = _times(node[name], factor)


def _times(value: Any, factor: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_times(part, factor) for part in value)
    return value * factor
