#!/usr/bin/env python
"""Evaluate a detector: ``tools/test.py CONFIG CHECKPOINT``."""

import argparse
import os
import sys

import mmdet_atc  # noqa: F401  supplies mmcv's operators where they are missing

# isort: split
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdet_atc.engine import (
    adapt_to_device,
    check_launched,
    choose_weights,
    config_mistakes_in_one_line,
    faults_in_one_line,
    load_config,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a detector')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='file, URL or hf://ORG/REPO/FILE[@REVISION]')
    parser.add_argument('--work-dir', help='folder for logs and metrics')
    parser.add_argument('--out', help='write all predictions to this .pkl file')
    parser.add_argument('--show', action='store_true', help='show detections in a window')
    parser.add_argument('--show-dir', help='write pictures of detections below the work dir')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per shown picture')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config values, for example test_dataloader.batch_size=8',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # Older torch.distributed.launch passes the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, got {args.out!r}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    try:
        check_launched(args.launcher)
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        cfg.launcher = args.launcher
        choose_weights(cfg, args.checkpoint)
        adapt_to_device(cfg)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    with faults_in_one_line():
        with config_mistakes_in_one_line():
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        if args.out:
            runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
        runner.test()


if __name__ == '__main__':
    main()
