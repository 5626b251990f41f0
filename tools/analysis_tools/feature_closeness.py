#!/usr/bin/env python
"""How close final patch features of merging ViTs are to the dense model's, on your images.

    python tools/analysis_tools/feature_closeness.py IMAGES vit_small_patch14_dinov2 \
        --weights vit_s14.safetensors --out-dir work_dirs/closeness

IMAGES is a folder. Without ``--weights`` timm's pretrained weights are downloaded. Writes
closeness.json, closeness.md and closeness.png.
"""

import argparse
import dataclasses
from pathlib import Path

from PIL import Image
from timm.data import resolve_model_data_config
from torchvision.transforms import functional as T

from mmdet_atc.classification.checkpoints import load_classifier
from mmdet_atc.classification.methods import build_vit
from mmdet_atc.engine import faults_in_one_line, positive_int
from mmdet_atc.studies.closeness import COMPARED, closeness, closeness_table, plot_closeness
from mmdet_atc.studies.tables import write_results
from mmdet_atc.visualization import find_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('model', help='name of a timm ViT that takes images of any size')
    parser.add_argument('--weights', help='local file; default: pretrained')
    parser.add_argument('--num-images', type=positive_int, default=8, help='the first ones')
    parser.add_argument('--grid', type=int, nargs=2, default=(28, 37), help='patches')
    parser.add_argument('--methods', nargs='+', choices=COMPARED, default=list(COMPARED))
    parser.add_argument('--keep-rates', type=float, nargs='+', default=(0.25, 0.5, 0.7, 0.9))
    parser.add_argument('--blocks', type=int, nargs='+', default=(3, 6, 9))
    parser.add_argument('--no-proportional-attn', action='store_true')
    parser.add_argument('--no-size-weighting', action='store_true')
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/closeness'))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    paths = find_images([str(args.images)])
    model = build_vit(
        args.model, pretrained=args.weights is None, dynamic_img_size=True, num_classes=0
    ).eval()
    if args.weights:
        load_classifier(model, args.weights)
    data = resolve_model_data_config(model)
    side = model.patch_embed.patch_size[0]
    size = (args.grid[0] * side, args.grid[1] * side)
    images = []
    for path in paths[: args.num_images]:
        pixels = T.to_tensor(Image.open(path).convert('RGB').resize(size[::-1]))
        images.append(T.normalize(pixels, data['mean'], data['std'])[None])
    rows = []
    for row in closeness(
        model,
        images,
        args.methods,
        args.keep_rates,
        args.blocks,
        not args.no_proportional_attn,
        not args.no_size_weighting,
    ):
        rows.append(row)
        print(f'{row.method:10} r={row.keep_rate:<5} {row.mean:.4f}', flush=True)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    records = [dataclasses.asdict(row) for row in rows]
    table = closeness_table(rows)
    write_results(args.out_dir / 'closeness', dict(settings=settings, rows=records), table)
    plot_closeness(rows, args.out_dir / 'closeness.png')
    print(table)


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
