#!/usr/bin/env python
"""Export a detector: ``tools/deployment/export.py CONFIG CHECKPOINT --shape 800 1344 --out FILE``.

The file takes pixels and gives boxes, labels, scores and masks (docs/export.md). At the end it is
compared with the model on real images.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from mmengine.config import ConfigDict

from mmdet_atc.apis import DetInferencer, load_exported
from mmdet_atc.apis.exported import config_of
from mmdet_atc.deployment import FORMATS, Spec, TraceableDetector, compare, save
from mmdet_atc.engine import faults_in_one_line, positive_int
from mmdet_atc.studies.speed.timing import interleaved_times
from mmdet_atc.visualization.files import find_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export a detector')
    parser.add_argument('config', help="config file or a model's name")
    parser.add_argument('checkpoint', help='file, URL or hf://ORG/REPO/FILE')
    parser.add_argument('--format', choices=list(FORMATS), default='pt2')
    parser.add_argument(
        '--shape',
        type=positive_int,
        nargs=2,
        required=True,
        metavar=('H', 'W'),
        help='of the padded images, multiples of 32',
    )
    parser.add_argument('--batch', type=positive_int, default=1, help='images per call; default: 1')
    parser.add_argument('--dynamic', action='store_true', help='any size and batch in each call')
    parser.add_argument('--out', type=Path, required=True, help='the file')
    parser.add_argument(
        '--images',
        nargs='+',
        help="files, folders or quoted patterns to compare on; default: the config's test images",
    )
    parser.add_argument('--num-images', type=positive_int, default=20, help='at most; default: 20')
    parser.add_argument('--repeats', type=positive_int, default=5, help='timed calls; default: 5')
    return parser.parse_args()


def test_images(dataset: ConfigDict) -> str:
    folder = Path(dataset.data_root, dataset.data_prefix.img)
    if not folder.is_dir():
        raise ValueError(f"the config's test images are not at {folder}: give others with --images")
    return str(folder)


def step(text: str) -> None:
    print(f'... {text}', file=sys.stderr)


def main() -> None:
    args = parse_args()
    step('loading the model')
    inferencer = DetInferencer(args.config, args.checkpoint, device='cpu', show_progress=False)
    sources = args.images or [test_images(inferencer.cfg.test_dataloader.dataset)]
    images = [str(path) for path in find_images(sources)][: args.num_images]
    spec = Spec(*args.shape, args.batch, args.dynamic, config_of(inferencer))
    detector = TraceableDetector(inferencer.model)
    step(f'exporting to {args.format}')
    save(detector, spec, args.out, args.format)
    exported = load_exported(args.out, show_progress=False)
    step(f'comparing on {len(images)} images')
    parity = compare(inferencer.model, exported.program, exported.batches(images, args.batch))
    step('timing')
    inputs = next(exported.batches(images, args.batch))
    calls = dict(eager=lambda: detector(*inputs), exported=lambda: exported.program(*inputs))
    times = interleaved_times(calls, args.repeats, torch.device('cpu'))
    eager, ours = (statistics.median(times[name]) for name in calls)
    size = args.out.stat().st_size / 2**20
    print(f'parity: {parity}')
    print(
        f'{args.out}: {size:.1f} MiB; {ours * 1e3:.0f} ms a call of {tuple(inputs[0].shape)}, '
        f'eager {eager * 1e3:.0f} ms: {eager / ours:.2f}x'
    )
    if not parity.is_within():
        sys.exit(f'error: {args.out} does not give what the model gives')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        try:
            main()
        except ImportError as error:  # of what a format needs
            sys.exit(f'error: {error}')
