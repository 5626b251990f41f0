"""A checkpoint fits a model, or an error lists by parts where it differs, with the likely cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    if mismatch := Mismatch.between(given, wanted):
        raise CheckpointError(f'{source} does not fit {what}:\n{mismatch.explain(given, wanted)}')


@dataclass(frozen=True)
class Mismatch:
    """Difference between a file's tensors and a model's. False where there is none.

    Args:
        missing (tuple[str, ...]): Names that only the model has.
        unexpected (tuple[str, ...]): Names that only the file has.
        reshaped (tuple[str, ...]): Names of different shapes.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @classmethod
    def between(cls, given: State, wanted: State) -> Mismatch:
        """Compare a file's state dict with a model's.

        Counters of batch norm, which old files have not, count as no difference.
        """
        return cls(
            tuple(k for k in wanted if k not in given and not k.endswith('num_batches_tracked')),
            tuple(k for k in given if k not in wanted),
            tuple(k for k in wanted if k in given and given[k].shape != wanted[k].shape),
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def explain(self, given: State, wanted: State) -> str:
        """One line per part of the model, then a hint.

        Args:
            given (Mapping[str, Tensor]): State dict of the file.
            wanted (Mapping[str, Tensor]): State dict of the model.
        """
        lines = [
            f'  missing: {part}, {len(names)} tensors such as {names[0]}'
            for part, names in _by_part(self.missing)
        ]
        lines += [
            f'  unexpected: {part}, {len(names)} tensors such as {names[0]}'
            for part, names in _by_part(self.unexpected)
        ]
        lines += [
            f'  other shape: {part}, {len(names)} tensors such as {names[0]}, '
            f'{tuple(given[names[0]].shape)} in the file, {tuple(wanted[names[0]].shape)} here'
            for part, names in _by_part(self.reshaped)
        ]
        return '\n'.join([*lines, f'Hint: {self._hint(given, wanted)}'])

    def _hint(self, given: State, wanted: State) -> str:
        of_detector = any(k.startswith('backbone.') for k in wanted)
        if of_detector != any(k.startswith('backbone.') for k in given):
            return (
                'the file is a backbone or classifier, which initialises a model through '
                'model.backbone.init_cfg.checkpoint'
                if of_detector
                else 'the file is a detector, which is loaded through load_from'
            )
        found, here = width_of(given), width_of(wanted)
        if found and here and found != here:
            return (
                f'the file has {size_of(found)}, the config {size_of(here)}: take the config of '
                "the file's size"
            )
        parts = {part for part, _ in _by_part((*self.missing, *self.unexpected))}
        if parts & {'backbone.interactions', 'backbone.spm', 'interactions', 'spm'}:
            return 'the backbones differ: one of them is no ViT-Adapter, or has other interactions'
        if any('gamma' in k and '.blocks.' in f'.{k}' for k in (*self.missing, *self.unexpected)):
            return "layer scales: model.backbone.layer_scale must be as in the file's config"
        classes = 'roi_head.bbox_head.fc_cls.weight'
        if classes in self.reshaped and not parts:
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


def size_of(channels: int) -> str:
    """Channels of a ViT, with the letter of its size where there is one."""
    name = _SIZES.get(channels)
    return f'{channels} channels (size {name})' if name else f'{channels} channels'


def width_of(state: State) -> int | None:
    """Channels of a ViT's tokens."""
    for name in ('backbone.patch_embed.proj.weight', 'patch_embed.proj.weight'):
        if name in state:
            return len(state[name])
    return None
