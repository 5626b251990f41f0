#!/usr/bin/env python
"""Detect objects: ``demo/image_demo.py IMAGE... --config C --checkpoint K --out-dir D``."""

import argparse

from mmdet.apis import DetInferencer

from mmdet_atc.engine import faults_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(description='Draw the detections of a model on images')
    parser.add_argument('images', nargs='+', help='image files')
    parser.add_argument('--config', required=True, help='config file')
    parser.add_argument('--checkpoint', required=True, help='checkpoint file or URL')
    parser.add_argument('--out-dir', default='work_dirs/detections', help='gets vis/ and preds/')
    parser.add_argument('--device', help='for example cpu or cuda:0; the best one by default')
    parser.add_argument('--score-thr', type=float, default=0.3, help='draw boxes above this score')
    args = parser.parse_args()
    inferencer = DetInferencer(args.config, args.checkpoint, device=args.device)
    inferencer(args.images, out_dir=args.out_dir, pred_score_thr=args.score_thr, no_save_pred=False)


if __name__ == '__main__':
    with faults_in_one_line():
        main()
