#!/usr/bin/env python
"""Parameters and multiply-adds of detectors: ``get_flops.py CONFIG [CONFIG …]``."""

import argparse
import json
import sys
from pathlib import Path

import torch
from mmengine.utils import track_iter_progress

from mmdet_atc.engine import Variant, faults_in_one_line, positive_int
from mmdet_atc.studies.speed.flops import count_macs
from mmdet_atc.studies.speed.inputs import noise_batch
from mmdet_atc.studies.tables import markdown_table

PARTS = ('backbone', 'neck', 'heads', 'total')


def measure(variant: Variant, height: int, width: int) -> dict:
    model = variant.build(torch.device('cpu'))
    inputs = model.data_preprocessor(noise_batch(height, width), training=False)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return dict(name=variant.name, parameters=parameters, macs=count_macs(model, inputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', help='CONFIG[,KEY=VALUE...]')
    parser.add_argument(
        '--shape', type=positive_int, nargs=2, default=(800, 1333), help='height, width'
    )
    parser.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    args = parser.parse_args()
    variants = [Variant.parse(text) for text in args.configs]
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)  # fails before anything runs
    rows = [measure(v, *args.shape) for v in track_iter_progress(variants, file=sys.stderr)]
    if args.out:
        args.out.write_text(json.dumps(dict(shape=list(args.shape), rows=rows), indent=1))
    print(f'\nGiga multiply-adds (what papers call GFLOPs) at {args.shape[0]}x{args.shape[1]}:\n')
    lines = []
    for row in rows:
        macs = (f'{row["macs"][part] / 1e9:.1f}' for part in PARTS)
        lines.append([row['name'], row['parameters'] / 1e6, *macs])
    print(markdown_table(['model', 'parameters, M', *PARTS], lines))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
