"""What a training checkpoint may hold besides tensors and plain Python values.

``torch.load`` unpickles with ``weights_only=True`` since torch 2.6 and then refuses every class
that is not allow-listed. MMEngine's checkpoints hold its own scalar histories, made of numpy
arrays and of references to the history's methods, and MMCV 1.x puts numpy numbers beside the
weights; the authors' classifiers hold the arguments they were trained with, an
``argparse.Namespace``. Exactly those are allowed, and the protection stays on for everything else.
"""

from __future__ import annotations

import argparse
import os.path as osp
import re
import zipfile
from collections.abc import Callable
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_UNSAFE = re.compile(r'(?:Unsupported class|Trying to)[^.]*')
_STATISTICS = ('min', 'max', 'current', 'mean')


class CheckpointError(ValueError):
    """A checkpoint that is refused or does not fit; the message says what to do."""


class DownloadError(CheckpointError, OSError):
    """A checkpoint that neither the network nor the cache gives."""


def allow_mmengine_checkpoints() -> None:
    """Allow-list the classes of training states for ``torch.load``; see above."""
    core = getattr(np, '_core', None) or np.core
    reconstruct, scalar = core.multiarray._reconstruct, core.multiarray.scalar
    dtypes = {type(np.dtype(kind)) for kind in ('bool', 'int32', 'int64', 'float32', 'float64')}
    allowed: list = [HistoryBuffer, argparse.Namespace, np.ndarray, np.dtype, *dtypes]
    # numpy 2 renamed the module; files have the name of the numpy that wrote them.
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
    # A history pickles its methods as getattr(HistoryBuffer, name); plain getattr would open
    # every attribute of every object to a hostile file.
    allowed.append((_history_method, 'builtins.getattr'))
    torch.serialization.add_safe_globals(allowed)


def load_safely(
    path: str, map_location: str | None = None, source: str | None = None, mmap: bool = False
) -> dict:
    """``torch.load`` with ``weights_only=True`` and a clear refusal; safetensors and npz files too.

    Args:
        path (str): Local file.
        map_location (str, optional): As :func:`torch.load`.
        source (str, optional): What the user called the file, for messages. Default: ``path``.
        mmap (bool): Whether tensors stay on disk until they are used. Default: False.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: If the file holds a class that is not allowed, or is no checkpoint.
        OSError: If the file cannot be read.
    """
    if osp.splitext(path)[1] in ('.npz', '.npy'):
        return _load_npz(path, source or path)
    if _is_safetensors(path):
        return _load_safetensors(path, map_location, source or path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises what a damaged file makes it stumble over
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file system, not of the content
        raise CheckpointError(f'{source or path}: {explain_load_error(error)}') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{source or path} holds a {type(checkpoint).__name__}, not a dict of tensors'
        )
    return checkpoint


def _is_safetensors(path: str) -> bool:
    """Whatever the name is: the header is its length in 8 bytes, then JSON."""
    with open(path, 'rb') as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b'{' and start[7] == 0


def _load_safetensors(path: str, map_location: str | None, source: str) -> dict:
    from safetensors.torch import load_file

    try:
        return load_file(path, device=map_location or 'cpu')
    except Exception as error:  # the package's own class, which is no public name
        raise CheckpointError(f'{source}: no complete safetensors file ({error})') from error


def _load_npz(path: str, source: str) -> dict:
    """Arrays of an npz archive, as JAX publishes weights; never pickled objects."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # a damaged archive, pickled objects, dtypes that torch has not
        reason = ' '.join(str(error).split())
        raise CheckpointError(
            f'{source}: no complete NumPy archive of numbers ({reason})'
        ) from error


def verify_checkpoint(filename: str) -> dict:
    """Check that a local checkpoint file is whole, bit by bit, and safe to load.

    Args:
        filename (str): Local path.

    Returns:
        dict: The checkpoint, on the CPU; tensors of a zipped file stay on disk until they are used.

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
    # The checksums have vouched for the tensors.
    return load_safely(path, 'cpu', source=filename, mmap=zipped)


def _history_method(owner: object, name: str) -> Callable:
    """``getattr`` for the statistics methods of ``HistoryBuffer`` only."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(f'attribute {name!r} of {owner!r} is not allowed')
    return getattr(HistoryBuffer, name)


def explain_load_error(error: Exception) -> str:
    """What ``torch.load`` stumbled over and what to do, in one line."""
    text = ' '.join(str(error).split())
    if 'TorchScript' in text:
        return (
            'it is a TorchScript program, as OpenAI publishes CLIP, which could run code and is '
            'not loaded: take the same weights from timm (timm://vit_base_patch16_clip_quickgelu_224)'
        )
    refused = re.search(r'GLOBAL (\S+)', text)
    if refused is not None:
        return (
            f'the checkpoint holds {refused[1]}, which could run code and is not loaded. If you '
            'trust its source, write the weights alone to a new file, once, and load that: '
            'torch.save({"state_dict": torch.load(FILE, weights_only=False)["state_dict"]}, NEW)'
        )
    unsafe = _UNSAFE.search(text)
    if unsafe is not None:
        return (
            'the checkpoint holds more than tensors and training state, which could run code, and '
            f'is not loaded ({unsafe.group().strip()})'
        )
    detail = re.search(r'WeightsUnpickler error: (.+?)(?: Check the doc|$)', text)
    summary = detail[1] if detail else text.split('. ')[0] or type(error).__name__
    return f'no complete checkpoint ({summary}); delete it or name another one'
