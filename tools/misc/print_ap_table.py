#!/usr/bin/env python
"""Print the last evaluation of runs as a table: ``print_ap_table.py [NAME=]WORK_DIR ...``.

Runs of ``tools/test.py`` or of MMSegmentation's, all of one kind.
"""

import argparse
import json
import sys
from pathlib import Path

#: Titles, and the names of the values, of detectors and of segmentation.
AP = dict(AP='mAP', AP50='mAP_50', AP75='mAP_75', APs='mAP_s', APm='mAP_m', APl='mAP_l')
MIOU = ('mIoU', 'mAcc', 'aAcc')


def last_evaluation(work_dir: Path) -> dict:
    logs = sorted(work_dir.glob('*/*.json'))
    if not logs:
        sys.exit(f'error: no evaluation in {work_dir}')
    # One line of JSON per evaluation.
    return json.loads(logs[-1].read_text().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('runs', nargs='+', help='[NAME=]WORK_DIR of an evaluation')
    rows, titles = [], {}
    for run in parser.parse_args().runs:
        work_dir = run  # of which, as of a name, '=' may be a part
        while '=' in work_dir and not Path(work_dir).is_dir():
            work_dir = work_dir.partition('=')[2]
        name = run.removesuffix(work_dir).removesuffix('=')
        figures = last_evaluation(Path(work_dir))
        if 'mIoU' in figures:
            titles[tuple(MIOU)] = work_dir
            rows.append([name, *(f'{figures[metric]:7.1f}' for metric in MIOU)])
            continue
        kinds = dict(bbox='boxes', segm='masks')  # some detectors have boxes alone
        kinds = {kind: what for kind, what in kinds.items() if f'coco/{kind}_mAP' in figures}
        titles[tuple(AP)] = work_dir
        if not kinds:
            sys.exit(f'error: neither AP nor mIoU in {work_dir}')
        for kind, what in kinds.items():
            values = (figures[f'coco/{kind}_{metric}'] for metric in AP.values())
            rows.append([f'{name} {what}'.strip(), *(f'{value:7.3f}' for value in values)])
    if len(titles) > 1:
        sys.exit(f'error: not of one kind: {" and ".join(titles.values())}')
    rows.insert(0, ['', *(f'{title:>7}' for title in next(iter(titles)))])
    width = max(6, *(len(name) for name, *_ in rows))
    print('\n' + '\n'.join(f'{name:{width}}' + ''.join(cells) for name, *cells in rows))


if __name__ == '__main__':
    main()
