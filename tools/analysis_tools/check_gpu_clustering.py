#!/usr/bin/env python
"""Clustering on a GPU against the host, then its times: ``check_gpu_clustering.py KEYS.npz``."""

import argparse
import faulthandler
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.api import LINKAGES
from mmdet_atc.engine import faults_in_one_line, positive_int, usable_device
from mmdet_atc.studies.figures import append_figures
from mmdet_atc.studies.speed.clustering import load_keys
from mmdet_atc.studies.speed.gpu_clustering import Answer, compared, times
from mmdet_atc.studies.tables import markdown_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('features', type=Path, help='npz with keys, images x blocks x N x channels')
    parser.add_argument('--linkages', nargs='+', default=LINKAGES, choices=LINKAGES)
    parser.add_argument('--device', type=usable_device, default='cuda')
    parser.add_argument('--repeats', type=positive_int, default=50)
    parser.add_argument('--limit', type=positive_int, default=90, help='seconds a case may take')
    parser.add_argument('--figures', type=Path, help='also append all times to this CSV file')
    return parser.parse_args()


def told(answers: Iterator[Answer], linkage: str, limit: int) -> Iterator[Answer]:
    """A line for each; the process ends where one takes too long, as a kernel without end does."""
    faulthandler.dump_traceback_later(limit, exit=True)
    for answer in answers:
        outcome = answer.wrong or 'equal'
        print(f'{linkage}: {answer.case}: {outcome} ({answer.seconds:.2f} s)', flush=True)
        yield answer
        faulthandler.dump_traceback_later(limit, exit=True)
    faulthandler.cancel_dump_traceback_later()


def main() -> None:
    args = parse_args()
    keys = load_keys(args.features)[:8].float()
    agglomerative_clustering(keys[:1, 0], 2, backend='cpu')  # compiles, which is no case's time
    answers, right = [], []
    for linkage in args.linkages:
        found = list(told(compared(keys[:, 0], linkage, str(args.device)), linkage, args.limit))
        answers += found
        if not any(answer.wrong for answer in found):
            right.append(linkage)
    rows, figures = [], []
    for linkage in right:
        for name, milliseconds in times(keys.to(args.device), linkage, args.repeats):
            rows.append([linkage, name, f'{statistics.median(milliseconds):.3f}'])
            figures.append((f'{linkage}, {name}', 'ours, an image', milliseconds, 'ms'))
    print('\n' + markdown_table(['linkage', f'N = {keys.shape[2]}', 'ms an image'], rows))
    if args.figures:
        append_figures(args.figures, 'check_gpu_clustering', figures, args.device)
    if wrong := [answer for answer in answers if answer.wrong]:
        sys.exit(f'error: {len(wrong)} of {len(answers)} cases are not the labels of the host')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
