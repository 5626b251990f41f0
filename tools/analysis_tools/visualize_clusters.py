#!/usr/bin/env python
"""Draw token clusters: ``visualize_clusters.py IMAGE... --config C --checkpoint K --out-dir D``."""

import argparse
import sys
from pathlib import Path

import mmcv
from mmcv.transforms import Compose
from mmdet.apis import init_detector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import DictAction
from mmengine.utils import track_iter_progress

from mmdet_atc.engine import faults_in_one_line, load_config
from mmdet_atc.visualization import draw_cluster_stages, predict_clusters


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw the token clusters after each merge')
    parser.add_argument('images', nargs='+', help='image files')
    parser.add_argument('--config', required=True, help='config of a merging detector')
    parser.add_argument('--checkpoint', help='checkpoint; random weights without one')
    parser.add_argument('--out-dir', default='work_dirs/clusters', help='folder for the pictures')
    parser.add_argument('--device', default='cpu', help='for example cuda:0')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    missing = [path for path in args.images if not Path(path).is_file()]
    if missing:
        sys.exit(f'error: no such image: {", ".join(missing)}')
    cfg = load_config(args.config, args.cfg_options)
    cfg.model.backbone.init_cfg = None
    model = init_detector(cfg, args.checkpoint, palette='random', device=args.device)
    steps = [step for step in get_test_pipeline_cfg(cfg) if step['type'] != 'LoadAnnotations']
    pipeline = Compose(steps)
    out_dir = Path(args.out_dir)
    for path in track_iter_progress(args.images):
        try:
            clusters = predict_clusters(model, pipeline, path)
        except ValueError as error:
            sys.exit(f'error: {error}')
        picture = draw_cluster_stages(clusters.image, clusters.stages, clusters.titles)
        mmcv.imwrite(picture[..., ::-1], str(out_dir / f'{Path(path).stem}_clusters.png'))
    print(f'\npictures in {out_dir}')


if __name__ == '__main__':
    with faults_in_one_line():
        main()
