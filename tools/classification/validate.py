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
import sys
import time
from pathlib import Path

import timm
import torch
from timm.data import resolve_model_data_config
from torch.utils.data import DataLoader, Subset

from mmdet_atc.checkpoints import install
from mmdet_atc.classification.checkpoints import load_classifier
from mmdet_atc.classification.datasets import MULTI_LABEL, NAMES, build_dataset, build_transform
from mmdet_atc.classification.evaluation import evaluate
from mmdet_atc.classification.methods import add_merging_options, merge_as_asked, tokens_per_block


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('root', help='folder of the data set; any word for shapes')
    parser.add_argument('--dataset', choices=NAMES, default='imagenet')
    parser.add_argument('--model', default='deit_small_patch16_224', help="a timm model's name")
    parser.add_argument('--global-pool', help="'avg' for MAE's classifiers; default: the model's")
    parser.add_argument('--checkpoint', help='local file, URL or hf://ORG/REPO/FILE')
    parser.add_argument('--img-size', type=int, help="default: the model's")
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--limit', type=int, help='number of images; default: all')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--out', type=Path, help='JSON file of the results')
    add_merging_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    install()
    try:
        result = run(args)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(json.dumps(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))


def run(args: argparse.Namespace) -> dict:
    """Evaluate as asked; what goes to ``--out``."""
    options = {k: v for k in ('img_size', 'global_pool') if (v := getattr(args, k)) is not None}
    probe = build_dataset(args.dataset, args.root, 'val')
    model = timm.create_model(
        args.model, pretrained=args.checkpoint is None, num_classes=probe.num_classes, **options
    )
    if args.checkpoint:
        load_classifier(model, args.checkpoint)
    device = torch.device(args.device)
    model.to(device)
    what = merge_as_asked(model, args)
    config = resolve_model_data_config(model)
    transform = build_transform(
        args.dataset, config['input_size'][-1], False, config['mean'], config['std']
    )
    data = build_dataset(args.dataset, args.root, 'val', transform)
    if args.limit:
        data = Subset(data, range(min(args.limit, len(data))))
    loader = DataLoader(data, args.batch_size, num_workers=args.workers)
    start = time.time()

    def report(images: int) -> None:
        rate = images / (time.time() - start)
        left = (len(data) - images) / rate
        print(f'\r{images}/{len(data)}  {rate:.0f}/s  {left:.0f} s left ', end='', file=sys.stderr)

    found = evaluate(model, loader, device, args.dataset in MULTI_LABEL, args.amp, report)
    print(file=sys.stderr)
    return {
        'model': args.model,
        'merging': what,
        found.metric: round(found.value, 3),
        'images': found.images,
        'images_per_second': round(found.images_per_second, 1),
        'tokens_per_block': tokens_per_block(model, args),
    }


if __name__ == '__main__':
    main()
