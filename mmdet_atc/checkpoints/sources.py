"""Where checkpoints come from: files, http(s), timm and the Hugging Face hub, read without code."""

from __future__ import annotations

import os.path as osp
from typing import Any

import mmengine.runner.checkpoint
import torch
from mmengine.fileio import register_backend
from mmengine.runner.checkpoint import CheckpointLoader

from .atomic import ATOMIC_BACKEND, AtomicLocalBackend
from .hub import load_from_hub
from .safe import (
    CheckpointError,
    DownloadError,
    allow_mmengine_checkpoints,
    explain_load_error,
    load_safely,
)


def install() -> None:
    """Change how this process reads and writes checkpoints; ``import mmdet_atc`` calls it.

    Everything that the package changes outside of itself is here:

    - ``torch.load`` accepts the training state that MMEngine writes
      (:func:`allow_mmengine_checkpoints`).
    - MMEngine's ``CheckpointLoader`` knows ``hf://`` and ``timm://``, and unpickles local files and
      downloads with ``weights_only=True``.
    - MMEngine has the storage backend :data:`ATOMIC_BACKEND`.
    """
    allow_mmengine_checkpoints()
    register = CheckpointLoader.register_scheme
    register(prefixes='', loader=load_from_local, force=True)
    register(prefixes='timm://', loader=load_from_timm, force=True)
    register(prefixes='hf://', loader=load_from_hub, force=True)
    # For http(s):// and every scheme that ends there (torchvision://, openmmlab://, mmcls://).
    mmengine.runner.checkpoint.load_url = _load_url
    register_backend(ATOMIC_BACKEND, AtomicLocalBackend, force=True)


def load_from_local(filename: str, map_location: str | None = None) -> dict:
    """Checkpoint from a local file, unpickled with ``weights_only=True`` whatever torch's default.

    Args:
        filename (str): Path; ``~`` is the home folder.
        map_location (str, optional): As :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: If the file holds classes that are not allowed, or is no checkpoint.
        FileNotFoundError: If there is no such file.
    """
    path = osp.expanduser(filename)
    if not osp.isfile(path):
        raise FileNotFoundError(f'no checkpoint at {filename!r}')
    return load_safely(path, map_location, source=filename)


def load_from_timm(filename: str, map_location: str | None = None) -> dict:
    """Weights of a timm model, downloaded by timm or taken from its cache.

    Args:
        filename (str): ``timm://deit_small_patch16_224`` and the like.
        map_location (str, optional): Ignored, timm loads to the CPU.

    Returns:
        dict: The model's state dict.

    Raises:
        CheckpointError: If timm has no pretrained model of that name.
        DownloadError: If the weights cannot be downloaded.
    """
    import timm

    name = filename.removeprefix('timm://')
    if not timm.list_models(name.split('.')[0], pretrained=False):
        raise CheckpointError(f'timm has no model {name!r} (in checkpoint {filename!r})')
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:
        raise DownloadError(
            f'cannot load {filename!r}: {error}; without a connection give a local file instead'
        ) from error


def _load_url(url: str, model_dir: str | None = None, **kwargs: Any) -> dict:
    """Torch's function of this name, which unpickles anything by default, without running code."""
    folder = model_dir or osp.join(torch.hub.get_dir(), 'checkpoints')
    try:
        return torch.hub.load_state_dict_from_url(url, folder, weights_only=True, **kwargs)
    except OSError as error:
        raise DownloadError(
            f'cannot load {url}: {error}; check the address and the connection, or give a local '
            'file'
        ) from error
    except Exception as error:  # as in `load_safely`
        raise CheckpointError(
            f'{url}, downloaded to {folder}: {explain_load_error(error)}'
        ) from error
