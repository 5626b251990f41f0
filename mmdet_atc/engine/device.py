"""Fit a config that was written for GPUs to a machine that has none."""

from __future__ import annotations

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

#: Arguments of AmpOptimWrapper that OptimWrapper does not take.
_AMP_ARGS = ('loss_scale', 'dtype', 'use_fsdp')


def adapt_to_device(cfg: Config) -> None:
    """Without an accelerator: float32 optimizer, gloo, and batch norm that each process does alone.

    The running statistics of batch norm are averaged over the processes after each epoch.

    Call it before the runner is built, with ``cfg.launcher`` and torchrun's environment variables
    set. MMEngine's ``AmpOptimWrapper``, ``nn.SyncBatchNorm`` and nccl refuse to run on a CPU.

    Args:
        cfg (Config): Config of a run, changed in place.
    """
    if get_device() != 'cpu':
        return
    if cfg.get('launcher', 'none') != 'none':
        _join_processes(cfg)
    changes = []
    if (cfg.get('optim_wrapper') or {}).get('type') == 'AmpOptimWrapper':
        cfg.optim_wrapper.type = 'OptimWrapper'
        for name in _AMP_ARGS:
            cfg.optim_wrapper.pop(name, None)
        changes.append('float32 instead of mixed precision')
    if cfg.get('sync_bn'):
        cfg.sync_bn = None
        # Each process would keep, and evaluate with, the statistics of its own images.
        cfg.setdefault('default_hooks', {})['sync_buffers'] = dict(type='SyncBuffersHook')
        changes.append('batch norm per process instead of SyncBN')
    if cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend') == 'nccl':
        cfg.env_cfg.dist_cfg.backend = 'gloo'
        changes.append('gloo instead of nccl')
    if changes:
        print_log('No accelerator found: ' + ', '.join(changes), logger='current')


def _join_processes(cfg: Config) -> None:
    """Start the launcher's process group, and wrap the model for it, without MMEngine's CUDA calls.

    MMEngine keeps a process group that it finds, but always selects a CUDA device for a new one
    and for the model's wrapper.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
