"""Where a config says what data a run reads and evaluates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config


def data_sets(cfg: Config, split: str) -> list[Any]:
    """Configs of the data sets of ``train``, ``val`` or ``test``, inside any wrappers."""
    return list(_unwrapped((cfg.get(f'{split}_dataloader') or {}).get('dataset')))


def evaluators(cfg: Config, split: str) -> list[Any]:
    """Configs of the evaluators of ``val`` or ``test``."""
    given = cfg.get(f'{split}_evaluator')
    found = given if isinstance(given, (list, tuple)) else [given]
    return [evaluator for evaluator in found if isinstance(evaluator, dict)]


def allow_no_workers(cfg: Config) -> None:
    """Leave out what torch refuses where the main process loads the data (``num_workers=0``).

    Args:
        cfg (Config): Config of a run, changed in place.
    """
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader') or {}
        if loader.get('num_workers') == 0:
            loader['persistent_workers'] = False
            loader.pop('prefetch_factor', None)


def _unwrapped(dataset: Any) -> Iterator[Any]:
    inner = dataset and (dataset.get('datasets') or [dataset.get('dataset')])
    if inner and inner[0]:
        for part in inner:
            yield from _unwrapped(part)
    elif dataset:
        yield dataset
