"""What data a run reads, how much of it, and by which file it is evaluated."""

from __future__ import annotations

import os.path as osp
from collections.abc import Collection, Iterator
from typing import Any

from mmengine.config import Config

_EVALUATES_WHAT_WAS_RUN = 'CheckedCocoMetric'


def data_sets(cfg: Config, split: str) -> list[Any]:
    """Configs of the data sets of ``train``, ``val`` or ``test``, inside any wrappers."""
    return list(_unwrapped((cfg.get(f'{split}_dataloader') or {}).get('dataset')))


def evaluators(cfg: Config, split: str) -> list[Any]:
    """Configs of the evaluators of ``val`` or ``test``."""
    given = cfg.get(f'{split}_evaluator')
    found = given if isinstance(given, (list, tuple)) else [given]
    return [evaluator for evaluator in found if isinstance(evaluator, dict)]


def allow_no_workers(cfg: Config) -> None:
    """Leave out, in place, what torch refuses where the main process loads the data."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader') or {}
        if loader.get('num_workers') == 0:
            loader['persistent_workers'] = False
            loader.pop('prefetch_factor', None)


def limit_images(cfg: Config, count: int) -> None:
    """Leave only the first images of each data set of a run, in place.

    Raises:
        ValueError: If an evaluator would count the other images as missed.
    """
    for split in ('train', 'val', 'test'):
        for dataset in data_sets(cfg, split):
            chosen = dataset.get('indices')  # by the config: the first of these
            dataset.indices = chosen[:count] if isinstance(chosen, (list, tuple)) else count
        for evaluator in evaluators(cfg, split):
            if evaluator.get('ann_file') and evaluator['type'] != _EVALUATES_WHAT_WAS_RUN:
                raise ValueError(
                    f'--limit-images: {split}_evaluator is a {evaluator["type"]}, which counts '
                    f'the images left out as missed; {_EVALUATES_WHAT_WAS_RUN} does not'
                )


def check_evaluated_files(cfg: Config, stated: Collection[str] = ()) -> None:
    """Raise unless evaluators read the annotation files of their data sets.

    Exports number their images from 1: evaluated by the file of other images, ids overlap and the
    figures are silently wrong.

    Args:
        cfg (Config): Config of a run.
        stated (Collection[str]): Keys given on the command line, whose files are meant.

    Raises:
        ValueError: If a file differs; the message names both.
    """
    for split in ('val', 'test'):
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


def _unwrapped(dataset: Any) -> Iterator[Any]:
    inner = dataset and (dataset.get('datasets') or [dataset.get('dataset')])
    if inner and inner[0]:
        for part in inner:
            yield from _unwrapped(part)
    elif dataset:
        yield dataset
