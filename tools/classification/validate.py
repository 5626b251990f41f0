#!/usr/bin/env python
"""Accuracy and speed of a timm Vision Transformer, dense or with merged tokens.

    python tools/classification/validate.py /data/imagenet --model deit_small_patch16_224 \
        --method average --keep-rate 0.5
    python tools/classification/validate.py /data/coco --dataset coco \
        --model deit_tiny_patch16_224 --method single --keep-rate 0.5 \
        --checkpoint hf://joakimbh/atc_tiny-coco-single/atc_tiny-coco-05-single.pth
    python tools/classification/validate.py /data/imagenet --model vit_base_patch16_224 \
        --global-pool avg --checkpoint mae_finetuned_vit_base.pth --no-proportional-attn \
        --method complete --constant 16

Without ``--checkpoint`` the model has timm's pretrained weights.
"""

import argparse
import json
from pathlib import Path

import torch

from mmdet_atc.checkpoints import install
from mmdet_atc.classification.methods import add_model_options
from mmdet_atc.classification.validation import validate
from mmdet_atc.engine import faults_in_one_line, positive_int, usable_device


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_model_options(parser)
    parser.add_argument(
        '--device', type=usable_device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--checkpoint', help='local file, URL or hf://ORG/REPO/FILE')
    parser.add_argument('--batch-size', type=positive_int, default=128)
    parser.add_argument('--limit', type=positive_int, help='number of images; default: all')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--out', type=Path, help='JSON file of the results')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    install()
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)  # fails before anything runs
    result = validate(args)
    print(json.dumps(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
