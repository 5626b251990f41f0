"""Whole checkpoint files, and downloads that run no code."""

from __future__ import annotations

import os.path as osp
import zipfile
from typing import Any

import mmengine.runner.checkpoint
import torch

from .errors import CheckpointError, DownloadError
from .safe_globals import explain_load_error, load_safely


def verify_checkpoint(filename: str) -> None:
    """Check that a local checkpoint file is whole, bit by bit, and safe to load.

    Args:
        filename (str): Local path.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged or holds code.
    """
    path = osp.expanduser(filename)
    if not osp.isfile(path):
        raise FileNotFoundError(f'no checkpoint at {filename!r}')
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as file:
            try:
                damaged = file.testzip()
                reason = f'wrong checksum of {damaged!r}' if damaged else None
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                reason = str(error)
        if reason:
            raise CheckpointError(
                f'{filename}: no complete checkpoint ({reason}); delete it or name another one'
            )
    # Tensors stay on disk: the checksums have vouched for them.
    load_safely(path, 'cpu', source=filename, mmap=zipped)


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


# For http(s):// and every scheme that ends there (torchvision://, openmmlab://, mmcls://).
mmengine.runner.checkpoint.load_url = _load_url
