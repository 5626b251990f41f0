"""The heads of a detector have as many classes as its data: named once, counted here."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.logging import print_log

from .data import data_sets
from .private import base_files

_HEADS = ('bbox_head', 'mask_head', 'panoptic_head', 'panoptic_fusion_head')


def follow_classes(cfg: Config, path: str) -> None:
    """Set ``num_classes`` of the heads to the number of ``metainfo['classes']`` of the data.

    In heads of MaskFormer's kind, without stuff, ``num_things_classes`` is that number, and their
    list of a weight for each class is as long. Only a number that the config file has from its
    ``_base_`` follows; one that the file or the command line states must agree.

    Args:
        cfg (Config): Config of a run, changed in place.
        path (str): Its file.

    Raises:
        ValueError: If data sets have different classes, names are no sequence of different
            strings, or a head has another number of classes.
    """
    classes = _classes_of_data(cfg)
    if classes is None:
        return
    heads = dict(_heads(cfg.get('model') or {}))
    others = {name: head for name, head in heads.items() if head[_key(head)] != len(classes)}
    if not others:
        return
    inherited = _inherited(path)
    for name, head in others.items():
        key = _key(head)
        if head[key] != inherited.get(name):
            raise ValueError(
                f'model.{name}.{key} is {head[key]}, but the data have '
                f'{len(classes)} classes ({_listed(classes)}): leave out {key}, which '
                "follows, or correct metainfo['classes'] of the data sets"
            )
        _follow_weights(f'model.{name}.loss_cls', head.get('loss_cls'), head[key], len(classes))
        head[key] = len(classes)
    print_log(
        f'num_classes of {" and ".join(others)} is {len(classes)}, as the data have: '
        f'{_listed(classes)}',
        logger='current',
    )


def _classes_of_data(cfg: Config) -> tuple[str, ...] | None:
    """Class names that all data sets of a run share, None where no data set tells."""
    found = {
        f'{split}_dataloader': classes
        for split in ('train', 'val', 'test')
        for dataset in data_sets(cfg, split)[:1]
        if (classes := _classes(f'{split}_dataloader.dataset', dataset)) is not None
    }
    if not found:
        return None
    first, shared = next(iter(found.items()))
    for loader, classes in found.items():
        if classes != shared:
            raise ValueError(
                f'{first} has {len(shared)} classes ({_listed(shared)}), {loader} {len(classes)} '
                f"({_listed(classes)}): give metainfo['classes'] of one data set to all"
            )
    return shared


def _classes(name: str, dataset: Any) -> tuple[str, ...] | None:
    """Class names of a data set's config."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        return getattr(kind, 'METAINFO', {}).get('classes')
    # MMEngine takes a file with a name on each line too.
    if isinstance(classes, str) and osp.isfile(classes):
        classes = list_from_file(classes)
    if (
        not isinstance(classes, (list, tuple))
        or not classes
        or not all(isinstance(c, str) for c in classes)
    ):
        raise ValueError(
            f"{name}.metainfo['classes'] must be names, such as ('cat', 'dog') or ('cat',), or a "
            f'file with one on each line, got {classes!r}'
        )
    twice = sorted({c for c in classes if list(classes).count(c) > 1})
    if twice:
        raise ValueError(f"{name}.metainfo['classes'] names {_listed(twice)} twice")
    return tuple(classes)


def _heads(model: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and configs of the heads of a detector that say how many classes there are."""
    for prefix, parent in (('', model), ('roi_head.', model.get('roi_head') or {})):
        for part in _HEADS:
            head = parent.get(part)
            # Cascades have a list of them.
            stages = enumerate(head) if isinstance(head, (list, tuple)) else [('', head)]
            for stage, config in stages:
                if isinstance(config, dict) and _key(config) is not None:
                    yield f'{prefix}{part}' + (f'.{stage}' if stage != '' else ''), config


def _inherited(path: str) -> dict[str, int]:
    """``num_classes`` of each head in the files that a config file builds on."""
    found = {}
    for base_path in base_files(path):
        model = Config.fromfile(base_path).get('model') or {}
        found.update({name: head[_key(head)] for name, head in _heads(model)})
    return found


def _key(head: dict) -> str | None:
    """Which argument of a head says how many classes there are, None if none does."""
    if 'num_classes' in head:
        return 'num_classes'
    only_things = 'num_things_classes' in head and head.get('num_stuff_classes') == 0
    return 'num_things_classes' if only_things else None


def _follow_weights(name: str, loss: Any, before: int, after: int) -> None:
    """Make a list of weights, one for each class and then the background's, fit the classes."""
    weights = (loss or {}).get('class_weight')
    if not isinstance(weights, (list, tuple)) or len(weights) not in (before, before + 1):
        return
    if len(set(weights[:before])) > 1:
        raise ValueError(
            f'{name}.class_weight has {len(weights)} different weights, for {before} classes: give '
            f'them for the {after} of the data'
        )
    loss['class_weight'] = [weights[0]] * after + list(weights[before:])


def _listed(names: Any) -> str:
    names = list(names)
    return ', '.join(names[:4]) + (', ...' if len(names) > 4 else '')
