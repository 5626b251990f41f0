#!/usr/bin/env python
"""Rewrite a checkpoint for MMDetection 3.x or 2.x: ``convert_layout.py IN OUT --to mmdet2``."""

import argparse
from pathlib import Path

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmdet_atc.checkpoints import replaced, to_mmdet2, to_mmengine
from mmdet_atc.engine import faults_in_one_line

LAYOUTS = dict(mmengine=to_mmengine, mmdet2=to_mmdet2)


def main() -> None:
    parser = argparse.ArgumentParser(description='Rewrite a checkpoint in another layout')
    parser.add_argument('source', help='file, URL or hf://ORG/REPO/FILE[@REVISION]')
    parser.add_argument('target', type=Path, help='file to write')
    parser.add_argument(
        '--to',
        choices=LAYOUTS,
        default='mmengine',
        help='mmengine: MMDetection 3.x (default); mmdet2: MMDetection 2.x on MMCV 1.x',
    )
    args = parser.parse_args()
    checkpoint = LAYOUTS[args.to](CheckpointLoader.load_checkpoint(args.source, 'cpu'))
    with replaced(args.target) as file:
        torch.save(checkpoint, file)
    print(f'{len(checkpoint["state_dict"])} tensors in {args.target}')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
