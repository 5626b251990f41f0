#!/usr/bin/env python
"""The paper's Table 2: FID of Stable Diffusion 1.5 with merged tokens, the paper's values beside.

    pip install diffusers transformers clean-fid
    python tools/reproduce_table2.py --classes classes.txt --references val5000/ \
        --out-dir work_dirs/table2

``--classes`` has one line per ImageNet class in the order of their indices: all its names,
separated by commas. ``--references`` holds the first five validation images of each class. Each
cell makes two images per class (2,000) and compares them with these by clean-fid. Images that are
there are not made again: run it again to go on where it stopped. Writes images, CELL.json and
table.md.
"""

import argparse
import functools
import sys
from pathlib import Path

import torch

from mmdet_atc.engine import faults_in_one_line, positive_int, usable_device
from mmdet_atc.integrations.diffusers import apply_merging, remove_merging
from mmdet_atc.merging import METHODS
from mmdet_atc.studies.grids import paper_value, run_grid

PROMPT = 'A high quality photograph of a {}.'
#: Options that images and results depend on, besides those that the cells differ by.
SETTINGS = (
    *('classes', 'model', 'max_downsample', 'steps', 'guidance', 'size', 'per_class', 'limit'),
    'dtype',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--classes', type=Path, required=True)
    parser.add_argument('--references', type=Path, help='without it images are made only')
    parser.add_argument('--model', default='stable-diffusion-v1-5/stable-diffusion-v1-5')
    parser.add_argument(
        '--methods',
        nargs='+',
        default=['tome', 'single', 'average', 'complete'],
        choices=['tome', 'single', 'average', 'complete', 'dpcknn'],
    )
    parser.add_argument(
        '--keep-rates', type=float, nargs='+', default=[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    )
    parser.add_argument('--max-downsample', type=int, default=1)
    parser.add_argument('--steps', type=positive_int, default=50)
    parser.add_argument('--guidance', type=float, default=7.5)
    parser.add_argument('--size', type=positive_int, default=512)
    parser.add_argument('--per-class', type=positive_int, default=2)
    parser.add_argument('--limit', type=positive_int, help='number of classes; default: all')
    parser.add_argument(
        '--device', type=usable_device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--dtype', choices=('float16', 'float32'), default='float16')
    parser.add_argument('--out-dir', type=Path, required=True)
    args = parser.parse_args()
    for rate in args.keep_rates:
        if not 0 < rate <= 1:
            parser.error(f'--keep-rates must be in (0, 1], got {rate}')
    return args


def cell_of(method: str, rate: float) -> str:
    return 'dense' if rate == 1 else f'{method}_r{100 * rate:g}'


def main() -> None:
    args = parse_args()
    names = [line.strip() for line in args.classes.read_text().splitlines() if line.strip()]
    names = names[: args.limit]
    if not names:
        raise ValueError(f'{args.classes} has no line')
    if args.references:  # before hours of making images
        from cleanfid import fid

        if not any(args.references.iterdir()):
            raise ValueError(f'no images in {args.references}')
    pipeline = functools.cache(lambda: load(args))

    def run(method: str, rate: float) -> dict:
        pipe = pipeline()
        remove_merging(pipe)
        if rate < 1:
            apply_merging(pipe, METHODS[method].merging, rate, args.max_downsample)
        folder = args.out_dir / 'images' / cell_of(method, rate)
        make_images(pipe, names, folder, args)
        if not args.references:
            raise ValueError('its images are made, --references gives their FID')
        found = fid.compute_fid(
            str(folder), str(args.references), mode='clean', model_name='inception_v3'
        )
        images = len(list(folder.glob('*.png')))
        return dict(method=method, keep_rate=rate, images=images, fid=found)

    settings = {name: getattr(args, name) for name in SETTINGS}
    rows = {method: method for method in args.methods}
    columns = {rate: f'{100 * rate:g}%' for rate in args.keep_rates}
    paper = functools.partial(paper_value, 'table2')
    grid = rows, columns, cell_of, run
    print(run_grid(args.out_dir, settings, *grid, ['fid'], paper, 2, 'FID', say=print))


def load(args: argparse.Namespace):
    """The pipeline, without its safety checker: black images would count as generated ones."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        args.model, torch_dtype=getattr(torch, args.dtype), safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(args.device)


def make_images(pipe, names: list[str], folder: Path, args: argparse.Namespace) -> None:
    """Make what ``folder`` lacks; image i of class c has the seed 10 c + i, as the authors'."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        for image in range(args.per_class):
            path = folder / f'{index:04}_{image}.png'
            if path.exists():
                continue
            generator = torch.Generator(args.device).manual_seed(10 * index + image)
            made = pipe(
                PROMPT.format(name),
                height=args.size,
                width=args.size,
                num_inference_steps=args.steps,
                guidance_scale=args.guidance,
                generator=generator,
            ).images[0]
            part = path.with_suffix('.part')
            made.save(part, format='PNG')
            part.rename(path)
        sys.stderr.write(f'\r{folder.name}: {index + 1}/{len(names)} classes ')
    sys.stderr.write('\n')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
