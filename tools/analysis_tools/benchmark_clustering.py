#!/usr/bin/env python
"""Time clustering and its peers side by side: ``benchmark_clustering.py --help``."""

import argparse
import platform
from pathlib import Path

from mmdet_atc.clustering.api import LINKAGES
from mmdet_atc.engine import faults_in_one_line, positive_int, usable_device
from mmdet_atc.studies.figures import append_figures, measured_on
from mmdet_atc.studies.speed.clustering import CLUSTERERS, GRIDS, measure
from mmdet_atc.studies.speed.clustering_report import as_table, figures, growth_table, plot
from mmdet_atc.studies.tables import write_results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('images', nargs='?', help='folder of images')
    parser.add_argument(
        '--features', type=Path, help='npz with keys (images x blocks x tokens x channels) instead'
    )
    parser.add_argument('--block', type=int, default=0, help='which of the blocks of --features')
    parser.add_argument('--sizes', type=positive_int, nargs='+', default=list(GRIDS))
    parser.add_argument('--batches', type=positive_int, nargs='+', default=[1])
    parser.add_argument('--linkages', nargs='+', default=LINKAGES, choices=LINKAGES)
    parser.add_argument('--keep-rates', type=float, nargs='+', default=[0.5])
    parser.add_argument('--methods', nargs='+', default=list(CLUSTERERS), choices=list(CLUSTERERS))
    parser.add_argument('--device', type=usable_device, default='cpu', help='cpu or cuda')
    parser.add_argument('--repeats', type=positive_int, default=5)
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/benchmark_clustering'))
    parser.add_argument('--figures', type=Path, help='also append all figures to this CSV file')
    args = parser.parse_args()
    if (args.images is None) == (args.features is None):
        parser.error('give a folder of images or --features')
    if args.images and not GRIDS.keys() >= set(args.sizes):
        parser.error(f'--sizes of images must be of {", ".join(map(str, GRIDS))}')
    for rate in args.keep_rates:
        if not 1 / min(args.sizes) <= rate <= 1:
            parser.error(f'--keep-rates must leave a token and be at most 1, got {rate:g}')
    return args


def main() -> None:
    args = parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)  # fails before anything is measured
    rows = measure(
        args.images or args.features,
        None if args.images else args.block,
        args.sizes,
        args.batches,
        args.linkages,
        args.keep_rates,
        args.methods,
        args.device,
        args.repeats,
    )
    machine = dict(processor=platform.processor(), **measured_on(args.device))
    tables = as_table(rows)
    if len(set(args.sizes)) > 1:
        tables += '\n\n' + growth_table(rows)
    write_results(args.out_dir / 'times', dict(machine=machine, rows=rows), tables)
    plot(rows, args.out_dir / 'times.png')
    if args.figures:
        append_figures(args.figures, 'benchmark_clustering', figures(rows), args.device)
    print('\n' + tables)


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
