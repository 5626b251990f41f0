#!/usr/bin/env python
"""Look for leaks: ``endurance.py CONFIG --passes 2000`` on images of ever other sizes.

Ends with status 1 if the second half of the passes holds more than the first half left.
"""

import argparse
import sys

import torch

from mmdet_atc.engine import (
    config_mistakes_in_one_line,
    faults_in_one_line,
    positive_int,
    usable_device,
)
from mmdet_atc.engine.variants import Variant
from mmdet_atc.studies.speed.endurance import run_and_look
from mmdet_atc.studies.speed.inputs import noise_batch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Look for leaks over many forward passes')
    parser.add_argument('config', help='CONFIG[,KEY=VALUE...]')
    parser.add_argument('--passes', type=positive_int, default=2000, help='a multiple of 10')
    parser.add_argument(
        '--sides',
        type=positive_int,
        nargs=3,
        default=(64, 512, 32),
        help='first, last, step, in pixels',
    )
    parser.add_argument(
        '--device', type=usable_device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument(
        '--allowed', type=float, default=16, help='MiB that the second half may add'
    )
    args = parser.parse_args()
    if args.sides[0] > args.sides[1]:
        parser.error(f'--sides: the first is larger than the last, in {args.sides}')
    return args


def main() -> None:
    args = parse_args()
    first, last, step = args.sides
    try:
        variant = Variant.parse(args.config)
        with config_mistakes_in_one_line():
            detector = variant.build(args.device)
        looks = run_and_look(
            lambda height, width: detector.test_step(noise_batch(height, width)),
            args.passes,
            10,
            range(first, last + 1, step),
            args.device,
        )
        print('passes       MiB  tensors  files  threads')
        seen = []
        with torch.no_grad():
            for held in looks:
                seen.append(held)
                memory = float('nan') if held.mebibytes is None else held.mebibytes
                print(
                    f'{held.passes:6} {memory:9.1f} {held.tensors:8} {held.files:6} '
                    f'{held.threads:8}',
                    flush=True,
                )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    half, end = seen[4], seen[9]
    grown = (end.mebibytes or 0) - (half.mebibytes or 0)
    if grown > args.allowed or end.files > half.files or end.threads > half.threads:
        sys.exit(f'error: the second half held on to {grown:.1f} MiB, or to files or threads')


if __name__ == '__main__':
    with faults_in_one_line():
        main()
