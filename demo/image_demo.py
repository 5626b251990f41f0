#!/usr/bin/env python
"""Detect objects: ``demo/image_demo.py IMAGE... --config C --checkpoint K --out-dir D``.

IMAGE is a file, a folder or a quoted pattern. Each gives a picture with boxes and masks in D/vis/
and its detections as JSON (boxes in pixels, masks as COCO's RLE) in D/preds/.
"""

import mmdet_atc  # noqa: F401  # isort: skip; says at once that it loads

import argparse
import sys
from pathlib import Path

import cv2
import mmcv
import mmengine
import numpy as np
from mmengine.utils import track_iter_progress

from mmdet_atc.apis import DetInferencer
from mmdet_atc.engine import faults_in_one_line, usable_device
from mmdet_atc.visualization.detections import draw_detections
from mmdet_atc.visualization.files import find_images, picture_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw the detections of a model on images')
    parser.add_argument('images', nargs='+', help='files, folders or quoted patterns')
    parser.add_argument('--config', required=True, help="config file or a model's name")
    parser.add_argument(
        '--checkpoint',
        help='file, URL or hf://ORG/REPO/FILE; the published one of a named model by default',
    )
    parser.add_argument('--out-dir', default='work_dirs/detections', help='gets vis/ and preds/')
    parser.add_argument(
        '--device',
        type=usable_device,
        help='for example cpu or cuda:0; the best one by default',
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='draw boxes above this score')
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must be in [0, 1], got {args.score_thr}')
    if args.checkpoint is None and Path(args.config).is_file():
        parser.error('--checkpoint is needed with a config file')
    return args


def detect(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Write pictures and detections of all images; returns what was written and what could not."""
    paths = find_images(args.images)
    inferencer = DetInferencer(
        args.config,
        args.checkpoint,
        device=args.device and str(args.device),
        show_progress=False,
    )
    classes = inferencer.model.dataset_meta['classes']
    out_dir = Path(args.out_dir)
    drawn, unreadable = 0, []
    pictures = list(zip(paths, picture_names(paths), strict=True))
    for path, name in track_iter_progress(pictures, file=sys.stderr):
        try:
            image = read_image(path)
        except ValueError as error:
            unreadable.append(str(error))
            continue
        (sample,) = inferencer(str(path), return_datasamples=True, no_save_vis=True)['predictions']
        picture, count = draw_detections(inferencer.visualizer, image, sample, args.score_thr)
        found = inferencer.pred2dict(sample)
        found['names'] = [classes[label] for label in found['labels']]
        mmcv.imwrite(picture[..., ::-1], str(out_dir / 'vis' / f'{name}.png'))
        json_path = out_dir / 'preds' / f'{name}.json'
        json_path.parent.mkdir(parents=True, exist_ok=True)
        mmengine.dump(found, json_path)
        drawn += count
    read = len(paths) - len(unreadable)
    written = f'{read} pictures with {drawn} objects in {out_dir / "vis"}'
    if read and not drawn:
        written += f': none scores above --score-thr {args.score_thr:g}'
    return written, unreadable


def read_image(path: Path) -> np.ndarray:
    """RGB; MMCV's own error for a file that is no image does not name it."""
    try:
        image = mmcv.imread(str(path), channel_order='rgb')
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{path} cannot be read as an image')
    return image


def main() -> None:
    args = parse_args()
    written, unreadable = detect(args)
    print(f'\n{written}')
    if unreadable:
        sys.exit('\n'.join(f'error: {reason}' for reason in unreadable))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
