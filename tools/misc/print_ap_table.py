#!/usr/bin/env python
"""Print the last evaluation of a run as a table: ``tools/misc/print_ap_table.py WORK_DIR``."""

import argparse
import json
import sys
from pathlib import Path

METRICS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
TITLES = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')


def main() -> None:
    parser = argparse.ArgumentParser(description='Print the last evaluation of a run as a table')
    parser.add_argument('work_dir', type=Path, help='work dir of tools/test.py')
    args = parser.parse_args()
    logs = sorted(args.work_dir.glob('*/*.json'))
    if not logs:
        sys.exit(f'error: no evaluation in {args.work_dir}')
    # One line of JSON per evaluation.
    figures = json.loads(logs[-1].read_text().splitlines()[-1])
    if 'coco/bbox_mAP' not in figures:
        sys.exit(f'error: no AP of boxes in {logs[-1]}')
    print(f'\n{"":6}' + ''.join(f'{title:>7}' for title in TITLES))
    for kind, name in (('bbox', 'boxes'), ('segm', 'masks')):
        if f'coco/{kind}_mAP' not in figures:
            continue  # a detector of boxes alone
        values = (figures[f'coco/{kind}_{metric}'] for metric in METRICS)
        print(f'{name:6}' + ''.join(f'{value:7.3f}' for value in values))


if __name__ == '__main__':
    main()
