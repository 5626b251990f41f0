#!/usr/bin/env python
"""Evaluate the models of the paper's Table 3 on COCO: ``tools/reproduce_table3.py --help``.

Cells are saved when they are done; started again with the same --out-dir, the sweep goes on.

--dense-config evaluates a dense detector of yours instead, off the shelf, with every way to merge:
AP, and how far it is below the dense detector's, beside the paper's drop.
"""

import argparse
import sys
from pathlib import Path

from mmengine.utils import track_iter_progress

from mmdet_atc.engine import faults_in_one_line, load_config, positive_int
from mmdet_atc.studies.table3 import (
    Sweep,
    all_cells,
    below_dense,
    paper_values,
    plot,
    write_csv,
    write_markdown,
)
from mmdet_atc.studies.table3.cells import ALL_METHODS, KEEP_RATES, PAPER_METHODS, REGIMES, SIZES

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sizes', nargs='+', choices=SIZES, default=SIZES)
    parser.add_argument('--regimes', nargs='+', choices=REGIMES, default=REGIMES)
    parser.add_argument('--methods', nargs='+', choices=ALL_METHODS, default=PAPER_METHODS)
    parser.add_argument('--keep-rates', nargs='+', type=int, choices=KEEP_RATES, default=KEEP_RATES)
    parser.add_argument('--dense-tiny', help='dense checkpoint (off-the-shelf cells)')
    parser.add_argument('--dense-small', help='dense checkpoint (off-the-shelf cells)')
    parser.add_argument(
        '--dense-config',
        help='config of a dense detector to put merging into; a size names its checkpoint and the '
        "paper's values",
    )
    parser.add_argument(
        '--released', default='hf://joakimbh', help='what the released repositories lie under'
    )
    parser.add_argument('--gpus', type=positive_int, default=1, help='processes of an evaluation')
    parser.add_argument(
        '--limit-images', type=positive_int, help='first images only, for a quick look'
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/table3'))
    args = parser.parse_args()
    if args.dense_config is not None:
        args.regimes = ['off-the-shelf']
    elif beyond := set(args.methods).difference(PAPER_METHODS):
        parser.error(f'{", ".join(sorted(beyond))}: not in the paper; give --dense-config')
    return args


def main() -> None:
    args = parse_args()
    given = dict(tiny=args.dense_tiny, small=args.dense_small)
    dense = {size: path for size, path in given.items() if path}
    cells = all_cells(args.sizes, args.regimes, args.methods, args.keep_rates)
    (args.out_dir / 'cells').mkdir(parents=True, exist_ok=True)
    if args.dense_config is not None:
        kind = load_config(args.dense_config).model.backbone.type
        if kind != 'ViTAdapter':
            raise ValueError(
                f'--dense-config {args.dense_config} must be of a dense ViTAdapter, '
                f'its backbone is a {kind}'
            )
    for cell in cells:
        cell.checkpoint(dense, args.released)  # fails before anything runs
    sweep = Sweep(
        ROOT,
        args.out_dir,
        dense,
        args.released,
        args.gpus,
        args.cfg_options,
        args.limit_images,
        args.dense_config,
    )
    try:
        figures = {
            cell: sweep.evaluate(cell) for cell in track_iter_progress(cells, file=sys.stderr)
        }
    except RuntimeError as error:  # with the last lines of the evaluation that failed
        sys.exit(f'\nerror: {error}')
    tables: dict[str, tuple] = {'table3': ('AP', figures, paper_values())}
    if args.dense_config is not None:
        # Of other images and other weights: the paper's AP says nothing, its drop does.
        below = below_dense(figures, paper_values())
        tables = {'table3': ('AP', figures, {}), 'drop': ("AP less the dense model's", *below)}
    images = f'the first {args.limit_images} images' if args.limit_images else 'all images'
    for name, (quantity, found, paper) in tables.items():
        note = f'{quantity} in per cent, evaluated on {images}, {args.gpus} process(es).'
        text = write_markdown(args.out_dir / f'{name}.md', found, paper, note)
        write_csv(args.out_dir / f'{name}.csv', found, paper)
        plot(args.out_dir / f'{name}.png', found, paper, quantity)
        print(f'\n{text}')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
