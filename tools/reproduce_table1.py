#!/usr/bin/env python
"""The paper's Table 1 (MAE classifiers) and its DeiT study, with the paper's values beside ours.

    python tools/reproduce_table1.py /data/imagenet --checkpoints mae/ --out-dir work_dirs/table1
    python tools/reproduce_table1.py /data/imagenet --study deit --out-dir work_dirs/deit

``--checkpoints`` holds MAE's mae_finetuned_vit_{base,large,huge}.pth, and for the fine-tuned rows
what tools/classification/train.py made: SIZE_SCHEDULE_METHOD.pth such as
base_constant_complete.pth. The DeiT study takes the authors' files from the Hugging Face hub. Run
it again to go on where it stopped. Writes CELL.json and table.md.
"""

import argparse
import itertools
from pathlib import Path

import torch

from mmdet_atc.checkpoints import install
from mmdet_atc.classification.validation import validate
from mmdet_atc.engine import faults_in_one_line, positive_int, usable_device
from mmdet_atc.studies.grids import paper_value, run_grid

#: Size: name in timm, t of the paper.
MAE = dict(
    base=('vit_base_patch16_224', 16),
    large=('vit_large_patch16_224', 8),
    huge=('vit_huge_patch14_224', 7),
)
LINKAGES = ('single', 'average', 'complete')
PAPER_METHODS = ('tome', *LINKAGES)
SIZES = dict(mae=tuple(MAE), deit=('tiny', 'small', 'base'))
REGIMES = ('off-the-shelf', 'fine-tuned')
#: In the names of the authors' files.
DATASETS = dict(imagenet='im1k', nabirds='nab', coco='coco', nuswide='nus')
#: Options that results depend on, besides those that the cells differ by.
SETTINGS = ('root', 'study', 'dataset', 'checkpoints', 'count', 'limit', 'amp')
RATES = {0.25: '025', 0.5: '05', 0.7: '07', 0.9: '09'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('root', help='folder of the data set')
    parser.add_argument('--study', choices=('mae', 'deit'), default='mae')
    parser.add_argument(
        '--dataset', choices=DATASETS, default='imagenet', help='data set of the DeiT study'
    )
    parser.add_argument('--checkpoints', type=Path, default=Path('checkpoints'))
    parser.add_argument('--sizes', nargs='+', choices=('tiny', 'small', *MAE), help='default: all')
    parser.add_argument('--methods', nargs='+', choices=PAPER_METHODS, default=PAPER_METHODS)
    parser.add_argument('--regimes', nargs='+', choices=REGIMES, default=REGIMES)
    parser.add_argument('--count', choices=('exact', 'released'), default='exact')
    parser.add_argument('--batch-size', type=positive_int, default=128)
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--limit', type=positive_int, help='number of images; default: all')
    parser.add_argument(
        '--device', type=usable_device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--out-dir', type=Path, required=True)
    args = parser.parse_args()
    sizes = SIZES[args.study]
    args.sizes = args.sizes or sizes
    if not set(args.sizes) <= set(sizes):
        parser.error(f'--sizes of the {args.study} study are {", ".join(sizes)}')
    if args.study == 'deit' and not set(args.methods) & set(LINKAGES):
        parser.error(f'--methods of the deit study are {", ".join(LINKAGES)}')
    return args


def settings(args: argparse.Namespace) -> dict:
    return {name: getattr(args, name) for name in SETTINGS}


def asked(args: argparse.Namespace, **changes) -> argparse.Namespace:
    """Options of tools/classification/validate.py for one cell."""
    usual = dict.fromkeys(('global_pool', 'img_size', 'method', 'keep_rate', 'constant', 'linear'))
    usual |= dict(merge_blocks=[3, 6, 9], no_proportional_attn=False)
    return argparse.Namespace(**{**vars(args), **usual, **changes})


def mae(args: argparse.Namespace) -> str:
    """Runs Table 1; the table."""
    sizes = [size for size in MAE if size in args.sizes]
    rows = {('dense', None): 'dense'}
    rows |= {place: ' '.join(place) for place in itertools.product(args.regimes, args.methods)}
    columns = {place: ' '.join(place) for place in itertools.product(sizes, ('constant', 'linear'))}

    def cell_of(row: tuple, column: tuple) -> str:
        (regime, method), (size, schedule) = row, column
        return f'{size}_dense' if method is None else f'{size}_{schedule}_{regime}_{method}'

    def run(row: tuple, column: tuple) -> dict:
        (regime, method), (size, schedule) = row, column
        model, t = MAE[size]
        tuned = f'{size}_{schedule}_{method}.pth'
        file = tuned if regime == 'fine-tuned' else f'mae_finetuned_vit_{size}.pth'
        options = dict(dataset='imagenet', model=model, global_pool='avg')
        options['checkpoint'] = str(args.checkpoints / file)
        if method is not None:
            options |= {'method': method, schedule: t, 'no_proportional_attn': True}
        return validate(asked(args, **options))

    def paper(row: tuple, column: tuple) -> float | None:
        return paper_value('table1', rows[row], f'{columns[column]} {MAE[column[0]][1]}')

    where = args.out_dir, settings(args)
    return run_grid(*where, rows, columns, cell_of, run, ['top-1'], paper, say=print)


def deit(args: argparse.Namespace) -> str:
    """Runs the DeiT study, whose values the paper only plots; the table."""
    short = DATASETS[args.dataset]
    methods = [method for method in args.methods if method in LINKAGES]
    rows = {place: ' '.join(place) for place in itertools.product(args.sizes, methods)}

    def cell_of(row: tuple, rate: float) -> str:
        size, method = row
        return f'{size}_{method}_r{RATES[rate]}'

    def run(row: tuple, rate: float) -> dict:
        size, method = row
        repository = f'atc_{size}-{short}-{method}'
        path = f'hf://joakimbh/{repository}/atc_{size}-{short}-{RATES[rate]}-{method}.pth'
        options = dict(model=f'deit_{size}_patch16_224', method=method, keep_rate=rate)
        return validate(asked(args, checkpoint=path, **options))

    columns = {rate: f'r={rate}' for rate in RATES}
    where = args.out_dir, settings(args)
    return run_grid(*where, rows, columns, cell_of, run, ['top-1', 'mAP'], say=print)


def main() -> None:
    args = parse_args()
    install()
    print(mae(args) if args.study == 'mae' else deit(args))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
