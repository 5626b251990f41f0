"""Where checkpoints come from: files, http(s), timm and the Hugging Face hub, read without code."""

from __future__ import annotations

import os
import os.path as osp
from typing import Any

import mmengine.runner.checkpoint
import torch
from mmengine.fileio import register_backend
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

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
        dict: The model's ``state_dict``, and the ``traits`` (:func:`unnamed_traits`) of a ViT.

    Raises:
        CheckpointError: If timm has no model of that name, or no pretrained weights.
        DownloadError: If the weights cannot be downloaded.
    """
    import timm

    name = filename.removeprefix('timm://')
    if not timm.list_models(name.split('.')[0], pretrained=False):
        raise CheckpointError(f'timm has no model {name!r} (in checkpoint {filename!r})')
    tags = {weights.partition('.')[2] for weights in timm.list_pretrained(name.split('.')[0])}
    if not tags or name.partition('.')[2] not in {'', *tags}:
        known = ', '.join(sorted(tags)) or 'none'
        raise CheckpointError(f'timm has no weights {name!r}; those of this model are: {known}')
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # of the hub, of the network, or timm's own
        reason = ' '.join(str(error).split()).rstrip('.')
        raise DownloadError(
            f'cannot load {filename!r}: {reason}; without a connection give a local file instead'
        ) from error
    checkpoint = dict(state_dict=model.state_dict())
    blocks = getattr(model, 'blocks', None)
    if isinstance(model, timm.models.VisionTransformer) and blocks:
        checkpoint['traits'] = unnamed_traits(blocks[0])
    return checkpoint


def unnamed_traits(block: nn.Module) -> dict[str, Any]:
    """What changes a ViT's results, but no name or shape of its tensors.

    Args:
        block (nn.Module): One of a plain ViT's, of timm's class or ours.

    Returns:
        dict: The class of the block, the number of heads, the activation and the norms' epsilon;
        of other blocks than a plain one the class alone.
    """
    parts: Any = block
    traits = dict(block=type(block).__name__)
    if traits['block'] != 'Block':
        return traits
    return traits | dict(
        num_heads=parts.attn.num_heads,
        activation=type(parts.mlp.act).__name__,
        norm_eps=parts.norm1.eps,
    )


def _load_url(url: str, model_dir: str | None = None, **kwargs: Any) -> dict:
    """Torch's function of this name, which unpickles anything by default, without running code."""
    folder = model_dir or osp.join(torch.hub.get_dir(), 'checkpoints')
    path = osp.join(folder, osp.basename(url))
    try:
        if not url.endswith(('.npz', '.safetensors')):
            return torch.hub.load_state_dict_from_url(url, folder, weights_only=True, **kwargs)
        if not osp.exists(path):
            os.makedirs(folder, exist_ok=True)
            torch.hub.download_url_to_file(url, path)
    except OSError as error:
        raise DownloadError(
            f'cannot load {url}: {error}; check the address and the connection, or give a local '
            'file'
        ) from error
    except Exception as error:  # as in `load_safely`
        raise CheckpointError(
            f'{url}, downloaded to {folder}: {explain_load_error(error)}'
        ) from error
    return load_safely(path, kwargs.get('map_location'), f'{url}, downloaded to {folder}')
