#!/usr/bin/env python
"""Fine-tune a timm Vision Transformer with merged tokens, by the paper's recipe.

    torchrun --nproc_per_node 2 tools/classification/train.py /data/imagenet \
        --model deit_small_patch16_224 --method average --keep-rate 0.5 --out-dir work_dirs/atc_s

Writes last.pth, best.pth and log.jsonl; ``--resume`` goes on from last.pth.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from timm.utils import init_distributed_device

from mmdet_atc.checkpoints import install
from mmdet_atc.classification.checkpoints import load_classifier
from mmdet_atc.classification.datasets import MULTI_LABEL, build_dataset
from mmdet_atc.classification.methods import (
    add_model_options,
    build_model,
    merge_as_asked,
    transform_of,
)
from mmdet_atc.classification.training import Recipe, Trainer
from mmdet_atc.engine import faults_in_one_line


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_model_options(parser)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--checkpoint', help="start; default: timm's pretrained weights")
    parser.add_argument('--scratch', action='store_true', help='start from random weights')
    parser.add_argument('--drop-path', type=float, default=0.1)
    parser.add_argument('--out-dir', type=Path, required=True)
    parser.add_argument('--resume', action='store_true', help='from last.pth of --out-dir')
    for field in dataclasses.fields(Recipe):
        name = '--' + field.name.replace('_', '-')
        if isinstance(field.default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(name, type=type(field.default), default=field.default)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    install()
    device = init_distributed_device(args)
    try:
        run(args, device)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def run(args: argparse.Namespace, device: torch.device) -> None:
    """Train as asked."""
    recipe = Recipe(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Recipe)})
    torch.manual_seed(recipe.seed)
    train_data, val_data = (
        build_dataset(args.dataset, args.root, split) for split in ('train', 'val')
    )
    model = build_model(
        args,
        pretrained=args.checkpoint is None and not args.scratch,
        num_classes=train_data.num_classes,
        drop_path_rate=args.drop_path,
    )
    if args.checkpoint:
        load_classifier(model, args.checkpoint, new_head=True)
    model.to(device)
    what = merge_as_asked(model, args)
    for data, training in ((train_data, True), (val_data, False)):
        data.transform = transform_of(model, args, training)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    main_process = args.rank == 0
    trainer = Trainer(
        model,
        train_data,
        val_data,
        train_data.num_classes,
        recipe,
        args.dataset in MULTI_LABEL,
        args.workers,
        (lambda line: print(f'{what}  {line}', flush=True)) if main_process else lambda line: None,
    )
    if args.resume:
        trainer.resume(args.out_dir / 'last.pth')
    for found in trainer.run(args.out_dir, args):
        if main_process:
            with open(args.out_dir / 'log.jsonl', 'a') as log:
                log.write(json.dumps(dict(epoch=trainer.epoch, **dataclasses.asdict(found))) + '\n')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
