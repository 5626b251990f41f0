"""Read a config the way all tools do: file, data root, command line, number of classes."""

from __future__ import annotations

import difflib
import inspect
import os.path as osp
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from mmdet_atc.checkpoints import find_resumable_checkpoint, verify_checkpoint

from .classes import follow_classes

#: Top-level keys that are read where they are given, besides those of the config itself.
_OPTIONAL_KEYS = {
    *inspect.signature(Runner).parameters,
    *('activation_checkpointing', 'compile', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg'),
    *('new_classes', 'runner_type', 'sync_bn', 'total_batch_size'),
}


def load_config(
    path: str, cfg_options: dict[str, Any] | None = None, work_dir: str | None = None
) -> Config:
    """Config of a run.

    Args:
        path (str): Config file.
        cfg_options (dict, optional): Dotted keys and their values, which win over the file;
            ``data_root`` moves every path below the file's data root.
        work_dir (str, optional): Where the run writes; wins over the file. Without either it is
            ``work_dirs/<name of the config>``.

    Returns:
        Config: The merged config, in which the heads have as many classes as the data
        (:func:`follow_classes`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no config, ``data_root`` is given for a config that has none, a
            key begins with what nothing reads, or classes contradict each other.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'no config at {path!r}')
    try:
        cfg = Config.fromfile(path)
    except OSError as error:
        raise ValueError(f'{path} is no config: {error}') from error
    options = dict(cfg_options or {})
    if 'data_root' in options:
        if 'data_root' not in cfg:
            raise ValueError(f'data_root is given, but {path} has no top-level data_root')
        cfg = Config(_moved(cfg._cfg_dict, cfg.data_root, options['data_root']), filename=path)
    _check_top_level(options, cfg, path)
    cfg.merge_from_dict(options)
    follow_classes(cfg, path)
    cfg.work_dir = (
        work_dir
        or cfg.get('work_dir')
        or osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    )
    return cfg


def _check_top_level(options: dict[str, Any], cfg: Config, path: str) -> None:
    """That each key begins with one that is read: MMEngine takes any other without a word."""
    known = _OPTIONAL_KEYS.union(cfg)
    for key in options:
        name = key.partition('.')[0]
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            advice = (
                f'did you mean {similar[0]!r}?'
                if similar
                else 'give the whole name, such as model.backbone.merging.keep_rate'
            )
            raise ValueError(f'{path} has no {name!r} (in {key!r}): {advice}')


def choose_start(cfg: Config, resume: str | None) -> None:
    """Set ``cfg.load_from`` and ``cfg.resume`` for ``--resume [PATH]``.

    ``'auto'`` resumes the last whole checkpoint of the work dir; where there is none, training
    starts as without ``--resume``, from the config's ``load_from``.

    Args:
        cfg (Config): Config of a run, changed in place.
        resume (str, optional): Checkpoint file, ``'auto'`` or None.

    Raises:
        FileNotFoundError: If the file that training is to start from does not exist.
        CheckpointError: If it is damaged or holds code.
    """
    if resume == 'auto':
        resume = find_resumable_checkpoint(cfg.work_dir)
    if resume is not None:
        cfg.resume, cfg.load_from = True, resume
        _require_checkpoint(
            resume,
            f'resume: no checkpoint at {resume!r}. --resume without a file continues the last '
            f'whole one in {cfg.work_dir}',
        )
    elif start := cfg.get('load_from'):
        _require_checkpoint(
            start,
            f'load_from: no checkpoint at {start!r}. Train the dense model first, name another '
            'file with --cfg-options load_from=FILE, or start from random weights with '
            '--cfg-options load_from=None',
        )


def choose_weights(cfg: Config, checkpoint: str) -> None:
    """Set ``cfg.load_from`` to what is to be tested.

    Args:
        cfg (Config): Config of a run, changed in place.
        checkpoint (str): File, URL or ``hf://ORG/REPO/FILE``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged or holds code.
    """
    cfg.load_from = checkpoint
    _require_checkpoint(
        checkpoint, f'no checkpoint at {checkpoint!r}: give a file, a URL or hf://ORG/REPO/FILE'
    )


def _require_checkpoint(source: str, message: str) -> None:
    """That a file is there and whole; what is fetched is checked then."""
    if '://' in source:
        return
    if not osp.exists(source):
        raise FileNotFoundError(message)
    verify_checkpoint(source)


def _moved(node: Any, old: str, new: str) -> Any:
    """``node`` with ``old`` replaced by ``new`` in every path at or below ``old``."""
    if isinstance(node, dict):
        return ConfigDict({key: _moved(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    if isinstance(node, str) and (node == old or node.startswith(old.rstrip('/') + '/')):
        return new.rstrip('/') + node[len(old.rstrip('/')) :]
    return node
