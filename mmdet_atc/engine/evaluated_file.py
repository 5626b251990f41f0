"""Figures are by the annotation file that the data set of the same run reads."""

from __future__ import annotations

import os.path as osp
from collections.abc import Collection, Iterator
from typing import Any

from mmengine.config import Config

_SPLITS = ('val', 'test')


def check_evaluated_files(cfg: Config, stated: Collection[str] = ()) -> None:
    """That evaluators read the annotation files of their data sets.

    Exports number their images from 1: evaluated by the file of other images, ids overlap and the
    figures are wrong without a word.

    Args:
        cfg (Config): Config of a run.
        stated (Collection[str]): Keys given on the command line; an evaluator's file that is among
            them is meant. Default: none.

    Raises:
        ValueError: If a file differs; the message names both.
    """
    for split in _SPLITS:
        name = f'{split}_evaluator'
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if not dataset or not {name, f'{name}.ann_file'}.isdisjoint(stated):
            continue
        read = _annotation_file(dataset)
        for evaluated in _evaluated_files(cfg.get(name)):
            if read is not None and osp.abspath(evaluated) != osp.abspath(read):
                raise ValueError(
                    f'{name} reads {evaluated}, {split}_dataloader.dataset {read}: figures would '
                    f'be by other images. Give {name}.ann_file={read} too (on the command line any '
                    'file is taken as meant)'
                )


def _annotation_file(dataset: Any) -> str | None:
    """Of a data set's config, inside any wrappers; None where it names none."""
    while inner := dataset.get('dataset'):
        dataset = inner
    if not dataset.get('ann_file'):
        return None
    return osp.join(dataset.get('data_root') or '', dataset['ann_file'])


def _evaluated_files(evaluators: Any) -> Iterator[str]:
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    for evaluator in evaluators:
        if isinstance(evaluator, dict) and evaluator.get('ann_file'):
            yield evaluator['ann_file']
