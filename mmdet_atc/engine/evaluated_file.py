"""Figures are by the annotation file that the data set of the same run reads."""

from __future__ import annotations

import os.path as osp
from collections.abc import Collection

from mmengine.config import Config

from .data import data_sets, evaluators

_SPLITS = ('val', 'test')


def check_evaluated_files(cfg: Config, stated: Collection[str] = ()) -> None:
    """Raise unless evaluators read the annotation files of their data sets.

    Exports number their images from 1: evaluated by the file of other images, ids overlap and the
    figures are silently wrong.

    Args:
        cfg (Config): Config of a run.
        stated (Collection[str]): Keys given on the command line; an evaluator's file that is among
            them is meant. Default: none.

    Raises:
        ValueError: If a file differs; the message names both.
    """
    for split in _SPLITS:
        name = f'{split}_evaluator'
        files = [
            osp.join(dataset.get('data_root') or '', dataset['ann_file'])
            for dataset in data_sets(cfg, split)
            if dataset.get('ann_file')
        ]
        # Of several data sets the evaluator may read a file of its own.
        if len(files) != 1 or not {name, f'{name}.ann_file'}.isdisjoint(stated):
            continue
        read = files[0]
        for evaluator in evaluators(cfg, split):
            evaluated = evaluator.get('ann_file')
            if evaluated and osp.abspath(evaluated) != osp.abspath(read):
                raise ValueError(
                    f'{name} reads {evaluated}, {split}_dataloader.dataset {read}: figures would '
                    f'be by other images. Give {name}.ann_file={read} too (on the command line any '
                    'file is taken as meant)'
                )
