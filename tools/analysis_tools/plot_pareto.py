#!/usr/bin/env python
"""Plot AP over speed: ``plot_pareto.py SWEEP_DIR [--benchmark benchmark.json]``.

SWEEP_DIR is the ``--out-dir`` of ``tools/reproduce_table3.py``. Without a benchmark the speed is
that of the evaluation, with loading and post-processing; with the JSON of
``tools/analysis_tools/benchmark.py`` it is that of the backbone or of the detector. Writes
pareto.json, pareto.md and pareto.png.
"""

import argparse
import dataclasses
from pathlib import Path

from mmdet_atc.engine import faults_in_one_line
from mmdet_atc.studies.pareto import (
    benchmarked_speeds,
    pareto_front,
    pareto_table,
    plot_pareto,
    points,
    read_cells,
)
from mmdet_atc.studies.speed.measure import KINDS
from mmdet_atc.studies.tables import write_results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('sweep', type=Path, help='--out-dir of tools/reproduce_table3.py')
    parser.add_argument('--benchmark', type=Path, help='benchmark.json; its configs only')
    parser.add_argument(
        '--measure', choices=KINDS, default='detector', help='which speed of the benchmark'
    )
    parser.add_argument('--batch', type=int, help="images a batch; default: the benchmark's first")
    parser.add_argument('--out-dir', type=Path, help='default: SWEEP_DIR')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    speeds = None
    if args.benchmark:
        speeds = benchmarked_speeds(args.benchmark, args.measure, args.batch)
    found = points(read_cells(args.sweep), speeds)
    speed = 'evaluation' if speeds is None else f'{args.measure}, {args.benchmark.name}'
    out_dir = args.out_dir or args.sweep
    text = pareto_table(found)
    fronts = {ap: [p.cell.name for p in pareto_front(found, ap)] for ap in ('box_ap', 'mask_ap')}
    records = [dict(name=point.cell.name, **dataclasses.asdict(point)) for point in found]
    content = dict(speed=speed, points=records, fronts=fronts)
    write_results(out_dir / 'pareto', content, text)
    plot_pareto(found, out_dir / 'pareto.png', speed)
    print(text)


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
