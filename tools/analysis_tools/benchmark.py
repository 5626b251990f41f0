#!/usr/bin/env python
"""Compare detectors side by side in one run: ``benchmark.py CONFIG [CONFIG …]``.

The first one is what the others are compared with. A config may be followed by values that override
it, ``CONFIG,model.backbone.merging.backend=sklearn`` being the authors' way of clustering;
``CONFIG,compile=True`` compiles the backbone. Images
come from the first config's validation set, resized to one shape; the detectors take turns call by
call. Weights are random where no checkpoint is given, which makes merging models look slow.

Without configs backbones alone are measured, for a GPU: ``benchmark.py --size s [--vit FILE]
[--images FOLDER]`` runs the dense one and ATC at several rates in several precisions, one kernel
after another and as CUDA graphs, with stages and training steps.
"""

import mmdet_atc  # noqa: F401  # isort: skip; says at once that it loads

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from mmdet_atc.engine import Variant, faults_in_one_line, positive_int, usable_device
from mmdet_atc.studies.figures import append_figures, measured_on
from mmdet_atc.studies.speed import backbones, backbones_report
from mmdet_atc.studies.speed.inputs import annotated_batch, default_batch_sizes
from mmdet_atc.studies.speed.measure import AMP, KINDS, compare
from mmdet_atc.studies.speed.report import figures, plot, speed_table, stage_table
from mmdet_atc.studies.tables import write_results

RANDOM = 'random weights: keys are noise, which takes many times as long to cluster'
#: Options that are read with configs only, and without them only.
_OF_CONFIGS = ('checkpoints', 'batches', 'amp', 'measure', 'out_dir')
_ALONE = ('size', 'vit', 'images', 'bandwidth', 'skip')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('configs', nargs='*', help='CONFIG[,KEY=VALUE...]; the first is the base')
    parser.add_argument('--checkpoints', nargs='+', help='one per config; default: random weights')
    parser.add_argument(
        '--shape', type=positive_int, nargs=2, default=(800, 1333), help='height, width'
    )
    parser.add_argument(
        '--batches',
        type=positive_int,
        nargs='+',
        help='sizes; default: 1, on an accelerator 1 and 8',
    )
    parser.add_argument('--repeats', type=positive_int, default=5)
    parser.add_argument(
        '--device', type=usable_device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--amp', choices=list(AMP), default='off')
    parser.add_argument(
        '--measure',
        nargs='+',
        choices=KINDS,
        default=['backbone', 'detector'],
        help="training is a step of the config's optimizer, in the precision of --amp; "
        'default: %(default)s',
    )
    alone = parser.add_argument_group('backbones on a GPU, without configs')
    alone.add_argument('--size', choices=backbones.SIZES, default='s', help='default: s')
    alone.add_argument('--vit', help="a trained ViT's file; default: random weights")
    alone.add_argument('--images', type=Path, help='folder of eight JPEGs; default: noise')
    alone.add_argument('--bandwidth', type=float, help="bytes a second of the GPU's memory")
    alone.add_argument(
        '--skip', nargs='+', choices=list(backbones.PARTS), default=[], help='what is not measured'
    )
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/benchmark'))
    parser.add_argument(
        *('--figures', '--csv'), type=Path, help='also append all figures to this CSV file'
    )
    args = parser.parse_args()
    unread, mode = (_ALONE, 'with') if args.configs else (_OF_CONFIGS, 'without')
    if given := [name for name in unread if getattr(args, name) != parser.get_default(name)]:
        option = given[0].replace('_', '-')
        parser.error(f'--{option} says nothing {mode} configs')
    if args.checkpoints and len(args.checkpoints) != len(args.configs):
        parser.error(f'{len(args.checkpoints)} checkpoints for {len(args.configs)} configs')
    return args


def main() -> None:
    args = parse_args()
    if args.configs:
        compare_detectors(args)
    else:
        compare_backbones(args)


def compare_backbones(args: argparse.Namespace) -> None:
    models = backbones.build_backbones(args.size, args.vit, args.device)
    images = backbones.images_of(args.images, *args.shape).to(args.device)
    study = backbones.Study(models, images, args.repeats)
    for part, measure in backbones.PARTS.items():
        if part not in args.skip:
            print(f'... {part}', file=sys.stderr)
            try:
                measure(study)
            except (RuntimeError, ImportError, ValueError) as error:  # what is measured stays
                print(f'{part} is left out: {error}', file=sys.stderr)
    weights = args.vit or RANDOM
    shape = 'x'.join(map(str, images.shape[-2:]))
    name = torch.cuda.get_device_name(args.device) if args.device.type == 'cuda' else 'CPU'
    print(
        f'ViT-Adapter-{args.size.upper()}, {shape}, {name}, torch {torch.__version__}, {weights}\n'
    )
    print(backbones_report.figures_table(study.figures))
    print(f'\n{backbones_report.stage_table(study.figures, args.bandwidth)}')
    if args.figures:
        found = backbones_report.csv_figures(study.figures)
        append_figures(args.figures, 'backbones', found, args.device)


def compare_detectors(args: argparse.Namespace) -> None:
    args.out_dir.mkdir(parents=True, exist_ok=True)  # fails before anything runs
    device = args.device
    variants = [Variant.parse(text) for text in args.configs]
    sizes = args.batches or default_batch_sizes(device)
    batches = [annotated_batch(variants[0].cfg, size, *args.shape) for size in sizes]
    checkpoints = args.checkpoints or [None] * len(variants)
    if not args.checkpoints:
        print(f'{RANDOM}; give --checkpoints', file=sys.stderr)
    models = {
        variant.name: variant.build(device, checkpoint)
        for variant, checkpoint in zip(variants, checkpoints, strict=True)
    }
    compiled = [variant.name for variant in variants if variant.is_compiled]
    optimizers = {v.name: v.cfg.optim_wrapper for v in variants if 'optim_wrapper' in v.cfg}
    # Building an optimizer logs a line per parameter, across the progress bar.
    MMLogger.get_current_instance().setLevel('WARNING')
    rows = compare(
        models, batches, args.measure, args.repeats, device, args.amp, compiled, optimizers
    )
    machine = dict(measured_on(device), amp=args.amp, shape=list(args.shape))
    tables = f'{speed_table(rows)}\n\n{stage_table(rows)}'
    records = [dataclasses.asdict(row) for row in rows]
    write_results(args.out_dir / 'benchmark', dict(machine=machine, rows=records), tables)
    plot(rows, args.out_dir / 'benchmark.png')
    if args.figures:
        append_figures(args.figures, 'benchmark', figures(rows, args.amp, args.shape), device)
    print(f'\n{tables}')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
