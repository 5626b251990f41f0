#!/usr/bin/env python
"""Generate a small COCO-format set: ``tools/misc/make_shapes_dataset.py data/shapes``."""

import argparse

from mmdet_atc.datasets import generate_shapes_dataset, write_semantic_maps
from mmdet_atc.engine import faults_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(description='Generate a small COCO-format set of shapes')
    parser.add_argument('out_dir', help='folder to write; kept if it holds the same set already')
    parser.add_argument('--num-train', type=int, default=440, help='training images')
    parser.add_argument('--num-val', type=int, default=80, help='validation images')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--semantic', action='store_true', help='also write label maps for MMSegmentation'
    )
    args = parser.parse_args()
    path = generate_shapes_dataset(args.out_dir, args.num_train, args.num_val, args.seed)
    if args.semantic:
        write_semantic_maps(path)
    print(f'shapes set in {path}')


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
