#!/usr/bin/env python
"""Compare token clusters with ground-truth masks: ``analyse_clusters.py CONFIG [CONFIG …]``.

For each detector and merge: agreement with the masks (purity, under-segmentation error), the sizes
of the clusters, and which regions of the images keep their tokens. Images and masks are those of
the first config's test set. A config may be followed by values that override it,
``CONFIG,model.backbone.merging.keep_rate=0.7``. Writes clusters.json, clusters.md and three plots.
"""

import mmdet_atc  # noqa: F401  # isort: skip; says at once that it loads

import argparse
import sys
from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress

from mmdet_atc.engine import Variant, faults_in_one_line, positive_int, usable_device
from mmdet_atc.studies.agreement import (
    agreement_table,
    analyse,
    as_json,
    plot_agreement,
    plot_sizes,
    plot_survival,
    size_table,
    survival_table,
)
from mmdet_atc.studies.tables import write_results

NOTE = (
    '{count} images of {ann_file}{random}. Agreement is the mean over images in per cent, in '
    'brackets that of as many regular rectangles; the other two tables are over all images.'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('configs', nargs='+', help='CONFIG[,KEY=VALUE...] of merging detectors')
    parser.add_argument('--checkpoints', nargs='+', help='one for all or one per config')
    parser.add_argument('--limit-images', type=positive_int, help='first images only')
    parser.add_argument(
        '--device', type=usable_device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/clusters_analysis'))
    args = parser.parse_args()
    if args.checkpoints and len(args.checkpoints) not in (1, len(args.configs)):
        parser.error(f'{len(args.checkpoints)} checkpoints for {len(args.configs)} configs')
    return args


def distinct_names(variants: list[Variant], checkpoints: list[str | None]) -> list[str]:
    """Names of the variants; one config with several checkpoints is told apart by their files."""
    plain = [variant.name for variant in variants]
    names = [
        f'{name} ({Path(checkpoint).stem})' if checkpoint and plain.count(name) > 1 else name
        for name, checkpoint in zip(plain, checkpoints, strict=True)
    ]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f'given more than once: {", ".join(sorted(repeated))}')
    return names


def main() -> None:
    args = parse_args()
    checkpoints = args.checkpoints or [None]
    if len(checkpoints) == 1:
        checkpoints = checkpoints * len(args.configs)
    args.out_dir.mkdir(parents=True, exist_ok=True)  # fails before anything runs
    analyses = {}
    variants = [Variant.parse(text) for text in args.configs]
    names = distinct_names(variants, checkpoints)
    init_default_scope('mmdet')
    dataset = DATASETS.build(variants[0].cfg.test_dataloader.dataset)
    indices = range(min(len(dataset), args.limit_images or len(dataset)))
    for name, variant, checkpoint in zip(names, variants, checkpoints, strict=True):
        model = variant.build(args.device, checkpoint)
        print(name, file=sys.stderr)
        progress = track_iter_progress(indices, file=sys.stderr)
        analyses[name] = analyse(model, dataset, progress)
        print(file=sys.stderr)

    random = '' if args.checkpoints else ', random weights'
    note = NOTE.format(count=len(indices), ann_file=dataset.ann_file, random=random)
    tables = [agreement_table(analyses), survival_table(analyses), size_table(analyses)]
    text = '\n\n'.join([note, *tables])
    source = dict(annotations=dataset.ann_file, images=len(indices), checkpoints=args.checkpoints)
    write_results(args.out_dir / 'clusters', dict(source=source, rows=as_json(analyses)), text)
    plot_agreement(analyses, args.out_dir / 'agreement.png')
    plot_sizes(analyses, args.out_dir / 'sizes.png')
    plot_survival(analyses, args.out_dir / 'survival.png')
    print(text)


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
