"""A checkpoint fits a model, or an error lists by parts where it differs, with the likely cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from torch import Tensor

from .layouts import fit_state_dict, flat_state_dict
from .safe import CheckpointError

State = Mapping[str, Tensor]
_SIZES = {192: 'T', 384: 'S', 768: 'B', 1024: 'L'}


def fitted(checkpoint: Mapping[str, Any], wanted: State, source: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint under a model's names and in its shapes, all of them.

    Args:
        checkpoint (Mapping): Of any layout that :func:`flat_state_dict` reads.
        wanted (Mapping[str, Tensor]): State dict of the model.
        source (str): What the user called the file, for the message.

    Returns:
        dict[str, Tensor]: For ``load_state_dict(strict=False)``: old files lack the counters of
        batch norm.

    Raises:
        CheckpointError: If the checkpoint does not fit the model, or holds no weights.
    """
    state = fit_state_dict(flat_state_dict(checkpoint), wanted)
    check_fit(state, wanted, source)
    return state


def check_fit(given: State, wanted: State, source: str, what: str = 'the model') -> None:
    """Raise :class:`CheckpointError` where a file's state dict differs from a model's.

    Args:
        given (Mapping[str, Tensor]): State dict of the file.
        wanted (Mapping[str, Tensor]): State dict of the model.
        source (str): What the user called the file, for the message.
        what (str): What it is to fit, likewise. Default: ``'the model'``.
    """
    if text := difference(given, wanted):
        raise CheckpointError(f'{source} does not fit {what}:\n{text}')


def difference(given: State, wanted: State) -> str:
    """How a file's tensors differ from a model's: a line per part of the model, then a hint.

    Counters of batch norm, which old files lack, are no difference.

    Args:
        given (Mapping[str, Tensor]): State dict of the file.
        wanted (Mapping[str, Tensor]): State dict of the model.

    Returns:
        str: Empty where there is no difference.
    """
    missing = [k for k in wanted if k not in given and not k.endswith('num_batches_tracked')]
    unexpected = [k for k in given if k not in wanted]
    reshaped = [k for k in wanted if k in given and given[k].shape != wanted[k].shape]
    if not (missing or unexpected or reshaped):
        return ''
    lines = []
    for what, names in (
        ('missing', missing),
        ('unexpected', unexpected),
        ('other shape', reshaped),
    ):
        for part, own in _by_part(names):
            lines.append(f'  {what}: {part}, {len(own)} tensors such as {own[0]}')
            if names is reshaped:
                shapes = (tuple(state[own[0]].shape) for state in (given, wanted))
                lines[-1] += ', {} in the file, {} here'.format(*shapes)
    hint = _hint(given, wanted, [*missing, *unexpected], reshaped)
    return '\n'.join([*lines, f'Hint: {hint}'])


def _hint(given: State, wanted: State, others: list[str], reshaped: list[str]) -> str:
    of_detector = any(k.startswith('backbone.') for k in wanted)
    if of_detector != any(k.startswith('backbone.') for k in given):
        return (
            'the file is a backbone or classifier, which initialises a model through '
            'model.backbone.init_cfg.checkpoint'
            if of_detector
            else 'the file is a detector, which is loaded through load_from'
        )
    if text := other_width(given, wanted):
        return text
    parts = {part for part, _ in _by_part(others)}
    if parts & {'backbone.interactions', 'backbone.spm', 'interactions', 'spm'}:
        return 'the backbones differ: one of them is no ViT-Adapter, or has other interactions'
    if any('gamma' in k and '.blocks.' in f'.{k}' for k in others):
        return "layer scales: model.backbone.layer_scale must be as in the file's config"
    classes = 'roi_head.bbox_head.fc_cls.weight'
    if classes in reshaped and not parts:
        return (
            f'the file knows {len(given[classes]) - 1} classes, the config '
            f"{len(wanted[classes]) - 1}: give the file's classes as metainfo of the data sets "
            'or, to train on others, set default_hooks.checkpoint_fit.new_classes=True'
        )
    return "the architectures differ: compare model in the config with the file's config"


def _by_part(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Names by part of the model: ``backbone.blocks``, ``neck``, ``roi_head.mask_head``, ..."""
    return [(part, list(group)) for part, group in groupby(sorted(names, key=_part), key=_part)]


def _part(name: str) -> str:
    parts = name.split('.')
    return '.'.join(parts[: 2 if parts[0] in ('backbone', 'roi_head') else 1])


def other_width(given: State, wanted: State) -> str | None:
    """What to do where a file's ViT has another number of channels than a model's."""
    found, here = _width(given), _width(wanted)
    if found is None or here is None or found == here:
        return None
    return (
        f"the file has {_size(found)}, the config {_size(here)}: take the config of the file's size"
    )


def _width(state: State) -> int | None:
    for name in ('backbone.patch_embed.proj.weight', 'patch_embed.proj.weight'):
        if name in state:
            return len(state[name])
    return None


def _size(channels: int) -> str:
    name = _SIZES.get(channels)
    return f'{channels} channels (size {name})' if name else f'{channels} channels'
