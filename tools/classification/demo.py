#!/usr/bin/env python
"""Train a tiny ViT on generated textures and see what merging costs: minutes on a CPU, no files.

    python tools/classification/demo.py --out-dir work_dirs/textures

A dense model learns to tell discs with stripes of three directions from chessboards. Then ATC
and ToMe keep half or a quarter of the tokens in three stages, in that model as it is and fine-tuned
for some epochs.
"""

import argparse
import copy
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer

from mmdet_atc.checkpoints import install
from mmdet_atc.classification.datasets import Textures, build_transform
from mmdet_atc.classification.methods import CLASSIFIER_METHODS
from mmdet_atc.classification.training import Recipe, Trainer
from mmdet_atc.engine import faults_in_one_line, positive_int
from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import keep_rate_plan
from mmdet_atc.studies.tables import markdown_table

BLOCKS = (1, 2, 3)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--epochs', type=positive_int, default=8, help='epochs of the dense model')
    parser.add_argument('--finetune-epochs', type=positive_int, default=2)
    parser.add_argument('--images', type=positive_int, default=2000, help='to learn from')
    parser.add_argument(
        '--methods', nargs='+', choices=CLASSIFIER_METHODS, default=['average', 'tome']
    )
    parser.add_argument('--keep-rates', type=float, nargs='+', default=[0.5, 0.25])
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/textures'))
    return parser.parse_args()


def train(model: VisionTransformer, args, name: str, epochs: int, lr: float) -> tuple[float, float]:
    """Accuracy before and after training."""
    half = [0.5] * 3
    transform = build_transform('textures', 64, False, half, half)
    recipe = Recipe(
        epochs=epochs,
        warmup_epochs=min(2, epochs - 1),
        lr=lr,
        batch_size=64,
        accumulate=1,
        mixup=0,
        cutmix=0,
        ema=0,
        amp=False,
    )
    out_dir = args.out_dir / name
    trainer = Trainer(
        model,
        Textures('train', transform, args.images),
        Textures('val', transform),
        Textures.num_classes,
        recipe,
        workers=0,
        say=lambda line: print(f'{name:14} {line}', flush=True),
    )
    before = trainer.evaluate().value
    for found in trainer.run(out_dir, args):
        after = found.value
    return before, after


def main() -> None:
    args = parse_args()
    install()
    plans = [(rate, keep_rate_plan(rate, BLOCKS, of='initial')) for rate in args.keep_rates]
    args.out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    dense = VisionTransformer(
        img_size=64, patch_size=8, embed_dim=64, depth=5, num_heads=4, num_classes=4
    )
    _, accuracy = train(dense, args, 'dense', args.epochs, lr=0.016)
    lines = [['dense', 64, f'{accuracy:.1f}', '']]
    for method in args.methods:
        for keep_rate, plan in plans:
            model = apply_merging(copy.deepcopy(dense), CLASSIFIER_METHODS[method], plan)
            name = f'{method}_r{keep_rate:g}'
            before, after = train(model, args, name, args.finetune_epochs, lr=0.004)
            left = model.token_clusters[-1].num_clusters
            lines.append([f'{method} r={keep_rate:g}', left, f'{before:.1f}', f'{after:.1f}'])
    table = markdown_table(['model', 'tokens at the end', 'as it is', 'fine-tuned'], lines)
    (args.out_dir / 'table.md').write_text(table + '\n')
    print(table)


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
