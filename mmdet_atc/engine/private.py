"""What only private names of MMEngine give: each is used here alone, and why.

A new minor release may rename them; ``tests/engine/test_private.py`` is what fails then. Beside
these, :class:`AtomicCheckpointHook` and :class:`mmdet_atc.apis.DetInferencer` override private
methods of the classes that they extend.
"""

from __future__ import annotations

from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.model import BaseTTAModel, ImgDataPreprocessor, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn


def unwrapped(runner: Runner) -> nn.Module:
    """The runner's model inside wrappers for several processes and test-time augmentation."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def values_of(cfg: Config) -> ConfigDict:
    """All values of a config: iterating over a ``Config`` resolves lazy objects."""
    return cfg._cfg_dict


def base_files(path: str) -> list[str]:
    """The files that a config file names in ``_base_``: a merged config has forgotten them."""
    return [Config._get_cfg_path(base, path)[0] for base in Config._get_base_files(path)]


def parsed_value(text: str) -> Any:
    """A value as ``--cfg-options`` reads it, outside of a command line's parser."""
    return DictAction._parse_iterable(text)


def starts_training(runner: Runner) -> bool:
    """Whether the checkpoint being loaded begins a new training: hooks are not told."""
    return isinstance(runner._train_loop, BaseLoop) and not runner._resume


def turns_channels(preprocessor: ImgDataPreprocessor) -> bool:
    """Whether it turns BGR into RGB (or back): its arguments of both are gone."""
    return preprocessor._channel_conversion


def normalises(preprocessor: ImgDataPreprocessor) -> bool:
    """Whether it has a mean and a standard deviation: without, it has no such attributes."""
    return preprocessor._enable_normalize


def checkpoint_of(runner: Runner) -> str:
    """What the user called the checkpoint being loaded: hooks are not told."""
    return runner._load_from or 'the last checkpoint of the work dir'
