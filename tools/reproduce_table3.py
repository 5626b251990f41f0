#!/usr/bin/env python
"""Evaluate the models of the paper's Table 3 on COCO: ``tools/reproduce_table3.py --help``.

Cells are saved when they are done; started again with the same --out-dir, the sweep goes on.
"""

import argparse
import sys
from pathlib import Path

from mmengine.utils import track_iter_progress

from mmdet_atc.engine import faults_in_one_line, positive_int
from mmdet_atc.studies.table3 import (
    Sweep,
    all_cells,
    paper_values,
    plot,
    write_csv,
    write_markdown,
)
from mmdet_atc.studies.table3.cells import KEEP_RATES, METHODS, REGIMES, SIZES

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sizes', nargs='+', choices=SIZES, default=SIZES)
    parser.add_argument('--regimes', nargs='+', choices=REGIMES, default=REGIMES)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument('--keep-rates', nargs='+', type=int, choices=KEEP_RATES, default=KEEP_RATES)
    parser.add_argument('--dense-tiny', help='dense checkpoint (off-the-shelf cells)')
    parser.add_argument('--dense-small', help='dense checkpoint (off-the-shelf cells)')
    parser.add_argument(
        '--released', default='hf://joakimbh', help='what the released repositories lie under'
    )
    parser.add_argument('--gpus', type=positive_int, default=1, help='processes of an evaluation')
    parser.add_argument(
        '--limit-images', type=positive_int, help='first images only, for a quick look'
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/table3'))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    given = dict(tiny=args.dense_tiny, small=args.dense_small)
    dense = {size: path for size, path in given.items() if path}
    cells = all_cells(args.sizes, args.regimes, args.methods, args.keep_rates)
    (args.out_dir / 'cells').mkdir(parents=True, exist_ok=True)
    try:
        for cell in cells:
            cell.checkpoint(dense, args.released)
        sweep = Sweep(
            ROOT,
            args.out_dir,
            dense,
            args.released,
            args.gpus,
            args.cfg_options,
            args.limit_images,
        )
        figures = {
            cell: sweep.evaluate(cell) for cell in track_iter_progress(cells, file=sys.stderr)
        }
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    paper = paper_values()
    images = f'the first {args.limit_images} images' if args.limit_images else 'all images'
    note = f'Evaluated on {images}, {args.gpus} process(es). AP in per cent.'
    text = write_markdown(args.out_dir / 'table3.md', figures, paper, note)
    write_csv(args.out_dir / 'table3.csv', figures, paper)
    plot(args.out_dir / 'table3.png', figures, paper)
    print(f'\n{text}')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
