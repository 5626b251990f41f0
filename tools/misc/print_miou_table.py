#!/usr/bin/env python
"""Print evaluations of segmentation as one table: ``print_miou_table.py NAME=WORK_DIR ...``."""

import argparse
import json
import sys
from pathlib import Path

from mmdet_atc.studies.tables import markdown_table

METRICS = ('mIoU', 'mAcc', 'aAcc')


def last_evaluation(work_dir: Path) -> dict:
    logs = sorted(work_dir.glob('*/*.json'))
    if not logs:
        sys.exit(f'error: no evaluation in {work_dir}')
    # One line of JSON per evaluation.
    figures = json.loads(logs[-1].read_text().splitlines()[-1])
    if 'mIoU' not in figures:
        sys.exit(f'error: no mIoU in {logs[-1]}')
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', help="NAME=WORK_DIR, of MMSegmentation's tools/test.py")
    rows = []
    for run in parser.parse_args().runs:
        name, _, work_dir = run.rpartition('=')
        figures = last_evaluation(Path(work_dir))
        rows.append([name, *(f'{figures[metric]:.1f}' for metric in METRICS)])
    print(markdown_table(['model', *METRICS], rows))


if __name__ == '__main__':
    main()
