"""Checkpoints for other tools: MMEngine's layout, MMCV 1.x's layout, weights alone.

MMDetection 2.x (on MMCV 1.x) and 3.x (on MMEngine) name the tensors of a Mask R-CNN alike; what
differs is where classes, config and progress are noted. Each function takes a checkpoint of any
layout that :func:`flat_state_dict` reads, and raises CheckpointError where it holds no weights.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .layouts import fit_state_dict, flat_state_dict

#: Same facts in ``meta``, by MMCV's and by MMEngine's name.
_META = dict(config='cfg', exp_name='experiment_name', seed='seed', time='time')
_PROGRESS = ('epoch', 'iter')


def to_mmengine(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as MMDetection 3.x writes it, without the training state.

    Returns:
        dict: ``meta`` (with ``cfg`` and ``dataset_meta``) and ``state_dict``.
    """
    old = checkpoint.get('meta') or {}
    meta = {new: old[name] for name, new in _META.items() if name in old}
    meta |= {name: old[name] for name in (*_PROGRESS, *_META.values()) if name in old}
    if 'dataset_meta' in old:
        meta['dataset_meta'] = old['dataset_meta']
    elif 'CLASSES' in old:
        meta['dataset_meta'] = {
            name.lower(): old[name] for name in ('CLASSES', 'PALETTE') if name in old
        }
    state = fit_state_dict(flat_state_dict(checkpoint), wanted={})
    return dict(meta=meta, state_dict=_on_cpu(state))


def to_mmdet2(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as MMDetection 2.x writes it, without the training state.

    Returns:
        dict: ``meta`` (with ``config`` and ``CLASSES``) and ``state_dict``. The class token and
        classifier that the authors' models also have are left to their initial values.
    """
    new = to_mmengine(checkpoint)
    meta = {name: new['meta'][key] for name, key in _META.items() if key in new['meta']}
    meta |= {name: new['meta'][name] for name in _PROGRESS if name in new['meta']}
    dataset = new['meta'].get('dataset_meta') or {}
    meta |= {name.upper(): dataset[name] for name in ('classes', 'palette') if name in dataset}
    return dict(meta=meta, state_dict=new['state_dict'])


def stripped(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without what only training needs: optimizer, schedules, histories, EMA twin.

    Returns:
        dict: ``meta`` as it was, and ``state_dict`` on the CPU.
    """
    meta = checkpoint.get('meta') or {}
    return dict(meta=meta, state_dict=_on_cpu(flat_state_dict(checkpoint)))


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in state.items():
        # A view would be saved with all of the storage behind it.
        state[name] = tensor.detach().cpu().clone()
    return state
