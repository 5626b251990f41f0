"""How a backbone learns which part of a padded batch is picture: from the detector's samples.

A detector calls its backbone with the padded images alone. So a backbone hooks the module that it
becomes a child of: the samples of that module's call say by ``img_shape`` how large the pictures
are, and the backbone knows it for that one call, in training, testing, test-time augmentation and
``mmdet.apis`` alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

#: Height and width of each picture in pixels.
ValidSizes = tuple[tuple[int, int], ...]


def valid_sizes(samples: Any) -> ValidSizes | None:
    """Sizes of the pictures of a batch.

    Args:
        samples (Sequence[DataElement] | None): What a data preprocessor hands on.

    Returns:
        tuple, optional: Height and width of each; None where samples do not say.
    """
    if not isinstance(samples, (list, tuple)) or not samples:
        return None
    shapes: list[Any] = [getattr(sample, 'img_shape', None) for sample in samples]
    if any(shape is None for shape in shapes):
        return None
    return tuple((int(height), int(width)) for height, width, *_ in shapes)


class TakesValidSizes(nn.Module):
    """A backbone with :attr:`valid_sizes_of_call`, which the calls of its parent set."""

    #: Sizes of the pictures of the parent's running call; None where they are not known.
    valid_sizes_of_call: ValidSizes | None = None
    #: Height and width of its padded images: of windows of them nothing is known.
    padded_size_of_call: tuple[int, ...] = ()


def _hand_over(parent: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    samples = kwargs.get('data_samples', args[1] if len(args) > 1 else None)
    images = kwargs.get('inputs', args[0] if args else None)
    for child in _takers(parent.children()):
        child.valid_sizes_of_call = valid_sizes(samples)
        child.padded_size_of_call = tuple(getattr(images, 'shape', ())[-2:])


def _take_back(parent: nn.Module, args: tuple, output: object) -> None:
    for child in _takers(parent.children()):
        child.valid_sizes_of_call = None


def _takers(modules: Iterable[nn.Module | None]) -> Iterator[TakesValidSizes]:
    return (module for module in modules if isinstance(module, TakesValidSizes))


def _watch_parent(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    if any(_takers([child])) and _hand_over not in parent._forward_pre_hooks.values():
        parent.register_forward_pre_hook(_hand_over, with_kwargs=True)
        parent.register_forward_hook(_take_back, always_call=True)


register_module_module_registration_hook(_watch_parent)
