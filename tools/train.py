#!/usr/bin/env python
"""Train a detector: ``tools/train.py configs/atc_vit_adapter_s_average_r50.py``."""

import argparse
import os
import sys

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdet_atc.engine import (
    adapt_to_device,
    check_launched,
    choose_start,
    config_mistakes_in_one_line,
    faults_in_one_line,
    load_config,
    set_total_batch_size,
    world_size,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a detector')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size instead of accumulating gradients',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a value, from the last one of the work dir',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config values, for example train_dataloader.batch_size=1',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # Older torch.distributed.launch passes the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    try:
        check_launched(args.launcher)
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        cfg.launcher = args.launcher
        if args.amp:
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        if args.auto_scale_lr:
            cfg.auto_scale_lr.enable = True
        choose_start(cfg, args.resume)
        adapt_to_device(cfg)
        set_total_batch_size(cfg, world_size(args.launcher))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    with faults_in_one_line():
        with config_mistakes_in_one_line():
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        runner.train()


if __name__ == '__main__':
    main()
