"""From the command line to a runner: read the config, choose the weights, fit the machine."""

from __future__ import annotations

import argparse
import difflib
import inspect
import logging
import os
import os.path as osp
import sys
from typing import Any

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdet_atc.checkpoints import find_resumable_checkpoint, verify_checkpoint
from mmdet_atc.checkpoints.hub import HubFile, download
from mmdet_atc.shipped import shipped

from .classes import follow_classes
from .data import allow_no_workers, check_evaluated_files, limit_images
from .device import adapt_to_device
from .launchers import set_torchrun_variables
from .private import values_of
from .quiet_runner import QuietRunner
from .total_batch_size import set_total_batch_size
from .tta import augment_test

#: Top-level keys that are read where they are given, besides those of the config itself.
_OPTIONAL_KEYS = {
    *inspect.signature(Runner).parameters,
    *('activation_checkpointing', 'compile', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg'),
    *('runner_type', 'sync_bn', 'total_batch_size', 'tta_model', 'tta_pipeline'),
}


def prepare_training(args: argparse.Namespace) -> Config:
    """Config of a training run, fitted to the machine and the number of processes.

    Args:
        args (Namespace): Of ``tools/train.py``.

    Raises:
        FileNotFoundError: If the config or the checkpoint to start from does not exist.
        ValueError: If options contradict each other, a checkpoint is damaged (CheckpointError), or
            the launcher did not start this process.
    """
    cfg = _config_of(args)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr'):
            raise ValueError(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr=dict(base_batch_size=...), '
                'the batch size that its learning rate is for'
            )
        cfg.auto_scale_lr.enable = True
    choose_start(cfg, args.resume)
    adapt_to_device(cfg)
    set_total_batch_size(cfg, 1 if args.launcher == 'none' else int(os.environ['WORLD_SIZE']))
    return cfg


def prepare_test(args: argparse.Namespace) -> Config:
    """Config of an evaluation, fitted to the machine.

    Args:
        args (Namespace): Of ``tools/test.py``.

    Raises:
        FileNotFoundError: If the config or the checkpoint does not exist.
        ValueError: As :func:`prepare_training`.
    """
    cfg = _config_of(args)
    choose_weights(cfg, args.checkpoint)
    adapt_to_device(cfg)
    if args.tta:
        augment_test(cfg)
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    return cfg


def build(cfg: Config, predictions: str | None = None) -> Runner:
    """Runner of a prepared config.

    Args:
        cfg (Config): Of :func:`prepare_training` or :func:`prepare_test`.
        predictions (str, optional): ``.pkl`` file that a test writes all predictions to.

    Returns:
        Runner: :class:`QuietRunner`, or the config's ``runner_type``.
    """
    setup_cache_size_limit_of_dynamo()
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else QuietRunner.from_cfg(cfg)
    if predictions is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=predictions))
    return runner


def _config_of(args: argparse.Namespace) -> Config:
    set_torchrun_variables(args.launcher)
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    cfg.launcher = args.launcher
    if args.limit_images is not None:
        limit_images(cfg, args.limit_images)
    return cfg


def load_config(
    path: str, cfg_options: dict[str, Any] | None = None, work_dir: str | None = None
) -> Config:
    """Config of a run.

    Args:
        path (str): Config file, or the name of one of ours. ``~`` is the home folder, as in every
            path of the config. Modules of its ``custom_imports`` may lie beside it or in the
            working directory.
        cfg_options (dict, optional): Dotted keys and their values, which win over the file;
            ``data_root`` moves every path below the file's data root.
        work_dir (str, optional): Where the run writes; wins over the file. Without either it is
            ``work_dirs/<name of the config>``.

    Returns:
        Config: The merged config, in which the heads have as many classes as the data
        (:func:`follow_classes`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no config or one without a model, ``data_root`` is given for a
            config that has none, a key begins with what nothing reads, classes contradict each
            other, or an evaluator reads another file than its data set
            (:func:`check_evaluated_files`).
    """
    path = osp.expanduser(path)
    # Ours are not in the working directory where a wheel was installed.
    places = [path, str(shipped(path)), str(shipped(f'configs/{path}.py'))]
    if not any(map(osp.isfile, places)):
        raise FileNotFoundError(f'no config at {path!r}')
    path = next(filter(osp.isfile, places))
    _find_modules(osp.dirname(osp.abspath(path)), os.getcwd())
    try:
        cfg = Config.fromfile(path)
    except OSError as error:
        raise ValueError(f'{path} is no config: {error}') from error
    options = dict(cfg_options or {})
    if 'data_root' in options:
        if not cfg.get('data_root'):
            raise ValueError(f'data_root is given, but {path} has no top-level data_root')
        cfg = Config(_moved(values_of(cfg), cfg.data_root, options['data_root']), filename=path)
    _check_keys(options, cfg, path)
    cfg.merge_from_dict(options)
    cfg = Config(_moved(values_of(cfg), '~', osp.expanduser('~')), filename=path)
    if 'model' not in cfg:
        raise ValueError(f'{path} has no model: it is only a part of configs')
    allow_no_workers(cfg)
    follow_classes(cfg, path)
    check_evaluated_files(cfg, options)
    cfg.work_dir = osp.expanduser(
        work_dir
        or cfg.get('work_dir')
        or osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    )
    return cfg


def _find_modules(*folders: str) -> None:
    """After all other places, so that no file there is taken for an installed package."""
    sys.path.extend(folder for folder in dict.fromkeys(folders) if folder not in sys.path)


def _check_keys(options: dict[str, Any], cfg: Config, path: str) -> None:
    """Raise unless each key begins with one that something reads: MMEngine ignores any other.

    Below the top only a name that is close to one that is there is taken for a mistake.
    """
    known: Any = {**dict.fromkeys(_OPTIONAL_KEYS), **values_of(cfg)}
    for key in options:
        node, alike = known, 0.8
        for part in key.split('.'):
            if not isinstance(node, dict):
                break
            similar = difflib.get_close_matches(part, node, n=1, cutoff=alike)
            if part not in node and (similar or node is known):
                advice = (
                    f'did you mean {similar[0]!r}? If not, write it into a config file'
                    if similar
                    else 'give the whole name, such as model.backbone.merging.keep_rate'
                )
                raise ValueError(f'{path} has no {part!r} in {key!r}: {advice}')
            node, alike = node.get(part), 0.9


def choose_start(cfg: Config, resume: str | None) -> None:
    """Set ``cfg.load_from`` and ``cfg.resume`` for ``--resume [PATH]``.

    ``'auto'`` resumes the last whole checkpoint of the work dir; where there is none, training
    starts as without ``--resume``, from the config's ``load_from``.

    Raises:
        FileNotFoundError: If the file that training is to start from does not exist.
        CheckpointError: If it is damaged or holds code.
    """
    if resume == 'auto':
        resume = find_resumable_checkpoint(cfg.work_dir)
        if resume is None:
            print_log(
                f'--resume: no checkpoint in {cfg.work_dir}; training starts anew',
                logger='current',
                level=logging.WARNING,
            )
    if resume is not None:
        cfg.resume = True
        advice = f'--resume without a file continues the last whole one in {cfg.work_dir}'
        _keep_seed(cfg, _load_from(cfg, resume, 'resume: ', advice))
    elif cfg.get('load_from'):
        advice = (
            'Train the dense model first, name another file with --cfg-options load_from=FILE, or '
            'start from random weights with --cfg-options load_from=None'
        )
        _load_from(cfg, cfg.load_from, 'load_from: ', advice)


def choose_weights(cfg: Config, checkpoint: str) -> None:
    """Set ``cfg.load_from`` to what is to be tested.

    A config that a resumed run has saved says ``resume``, with which MMEngine would load the
    training data and the optimizer's state, too.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged or holds code.
    """
    cfg.resume = False
    _load_from(cfg, checkpoint, '', 'Give a file, a URL or hf://ORG/REPO/FILE')


def _keep_seed(cfg: Config, checkpoint: dict) -> None:
    """Where the config leaves the seed to chance, take that of the run that is resumed.

    MMEngine does, but only after its data loaders have drawn the order of the images.
    """
    randomness = cfg.get('randomness') or {}
    seed = checkpoint.get('meta', {}).get('seed')
    if randomness.get('seed') is None and seed is not None:
        cfg.randomness = dict(randomness, seed=seed)


def _load_from(cfg: Config, source: str, option: str, advice: str) -> dict:
    """Set ``cfg.load_from`` to a whole file and return it; URLs but of the hub are left alone."""
    cfg.load_from = source = osp.expanduser(source)
    if source.startswith('hf://'):
        download(HubFile.parse(source))
    if '://' in source:
        return {}
    if not osp.exists(source):
        raise FileNotFoundError(f'{option}no checkpoint at {source!r}. {advice}')
    return verify_checkpoint(source)


def _moved(node: Any, old: str, new: str) -> Any:
    """``node`` with ``old`` replaced by ``new`` in every path at or below ``old``."""
    if isinstance(node, dict):
        return ConfigDict({key: _moved(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    if isinstance(node, str) and (node == old or node.startswith(old.rstrip('/') + '/')):
        return new.rstrip('/') + node[len(old.rstrip('/')) :]
    return node
