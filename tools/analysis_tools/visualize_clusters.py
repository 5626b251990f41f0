#!/usr/bin/env python
"""Draw token clusters: ``visualize_clusters.py IMAGE... --config C --checkpoint K --out-dir D``.

IMAGE is a file, a folder or a quoted pattern. Each picture has the image, then one row per merge
and one column per method and keep rate. Of an SViT's config there is a row per selective block: the
tokens that it processes, and all others as one area.
"""

import mmdet_atc  # noqa: F401  # isort: skip; says at once that it loads

import argparse
import sys
from pathlib import Path

import mmcv
from mmengine.config import DictAction
from mmengine.utils import track_iter_progress

from mmdet_atc.engine import (
    Variant,
    faults_in_one_line,
    load_config,
    positive_int,
    usable_device,
)
from mmdet_atc.merging import METHODS
from mmdet_atc.visualization import (
    draw_cluster_grid,
    find_images,
    image_pipeline,
    load_batch,
    mergings_to_compare,
    picture_names,
)
from mmdet_atc.visualization.predict import compare_clusters


def keep_rate(text: str) -> float | list[float]:
    rates = [float(part) for part in text.split(',')]
    return rates if len(rates) > 1 else rates[0]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw the token clusters after each merge')
    parser.add_argument('images', nargs='+', help='files, folders or quoted patterns')
    parser.add_argument('--config', required=True, help='config of a merging detector')
    parser.add_argument('--checkpoint', help='checkpoint; random weights without one')
    parser.add_argument(
        '--methods', nargs='+', default=[], choices=METHODS, metavar='METHOD',
        help=f'columns, of {", ".join(METHODS)}; the config\'s own without',
    )  # fmt: skip
    parser.add_argument(
        '--keep-rates', nargs='+', default=[], type=keep_rate, metavar='R',
        help='columns, each R or R,R,R for one per merge; the config\'s own without',
    )  # fmt: skip
    parser.add_argument('--out-dir', default='work_dirs/clusters', help='folder for the pictures')
    parser.add_argument(
        '--batch-size',
        type=positive_int,
        default=1,
        help='images padded to a common size and run together',
    )
    parser.add_argument('--cell', type=int, help='side of a patch in the picture, in pixels')
    parser.add_argument('--device', type=usable_device, default='cpu', help='for example cuda:0')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    if args.cell is not None and args.cell < 4:
        parser.error(f'--cell must be at least 4, got {args.cell}')
    return args


def draw(args: argparse.Namespace) -> list[str]:
    """Write the pictures of all images; returns why some could not be read."""
    paths = find_images(args.images)
    cfg = load_config(args.config, args.cfg_options)
    backbone = cfg.model.backbone
    mergings = mergings_to_compare(
        backbone.get('merging'), args.methods, args.keep_rates, backbone.type == 'SViTAdapter'
    )
    variant = Variant(Path(args.config).stem, cfg)
    model = variant.build(args.device, args.checkpoint)
    pipeline = image_pipeline(cfg)
    pictures = list(zip(paths, picture_names(paths), strict=True))
    unreadable = []
    starts = range(0, len(pictures), args.batch_size)
    for start in track_iter_progress(starts, file=sys.stderr):
        names, samples = [], []
        for path, name in pictures[start : start + args.batch_size]:
            try:
                samples.append(load_batch(pipeline, [path]))
                names.append(name)
            except ValueError as error:
                unreadable.append(str(error))
        if not names:
            continue
        batch = {key: [sample[key][0] for sample in samples] for key in samples[0]}
        for name, columns in zip(names, compare_clusters(model, batch, mergings), strict=True):
            picture = draw_cluster_grid(columns, args.cell)
            file = Path(args.out_dir, name.with_name(f'{name.name}_clusters.png'))
            mmcv.imwrite(picture[..., ::-1], str(file))
    return unreadable


def main() -> None:
    args = parse_args()
    unreadable = draw(args)
    print(f'\npictures in {args.out_dir}')
    if unreadable:
        sys.exit('\n'.join(f'error: {reason}' for reason in unreadable))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
