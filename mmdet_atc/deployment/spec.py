"""What an exported file says about itself."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

#: Sides of images are multiples of this.
DIVISOR = 32
#: Of files whose sizes are not fixed; larger ones have more tokens than can be clustered,
#: and of smaller ones the FPN's last level is one cell wide, which is traced in a way of its own.
SMALLEST_SIDE, LARGEST_SIDE, LARGEST_BATCH = 96, 2880, 64


@dataclass(frozen=True)
class Spec:
    """Which inputs a file takes, and what is beside the model.

    Args:
        height (int): Of the padded images in pixels; a dynamic file was traced with it.
        width (int): Likewise.
        batch (int): Images per call, likewise.
        dynamic (bool): Whether height, width and batch may be others in each call.
        config (dict): What an inferencer needs of the model's config. Default: nothing.

    Raises:
        ValueError: If a side is not a multiple of 32; the message names the next one. If a dynamic
            file does not take what it is traced with.
    """

    height: int
    width: int
    batch: int = 1
    dynamic: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.height % DIVISOR or self.width % DIVISOR:
            padded = [-(-side // DIVISOR) * DIVISOR for side in (self.height, self.width)]
            raise ValueError(
                f'height and width must be multiples of {DIVISOR}, got {self.height} and '
                f'{self.width}; pictures of that size fit into {padded[0]} and {padded[1]}'
            )
        shape = torch.Size((self.batch, 3, self.height, self.width))
        if not self._takes(shape):
            raise ValueError(f'a dynamic file takes pixels of {self._shapes}, got {tuple(shape)}')

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The reverse of :meth:`to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, 'config': ast.literal_eval(fields['config'])})

    def to_json(self) -> str:
        # JSON has no tuples, which transforms tell from lists.
        return json.dumps({**asdict(self), 'config': repr(self.config)})

    @property
    def limits(self) -> dict[str, tuple[int, int]]:
        """The least and greatest ``batch``, ``height`` and ``width`` that the file takes."""
        if self.dynamic:
            sides = SMALLEST_SIDE, LARGEST_SIDE
            return dict(batch=(1, LARGEST_BATCH), height=sides, width=sides)
        return {name: (getattr(self, name),) * 2 for name in ('batch', 'height', 'width')}

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the pixels that pictures of at most this size are to be padded to.

        Raises:
            ValueError: If the file does not take such pictures.
        """
        (low, high), (narrow, wide) = self.limits['height'], self.limits['width']
        if height > high or width > wide:
            raise ValueError(
                f'this file takes pictures of at most {high}x{wide}, got one of {height}x{width}'
            )
        padded = [-(-side // DIVISOR) * DIVISOR for side in (height, width)]
        return max(padded[0], low), max(padded[1], narrow)

    def check(self, pixels: Tensor, sizes: Tensor) -> None:
        """That a file takes these inputs.

        Args:
            pixels (Tensor): ``(B, 3, H, W)`` uint8.
            sizes (Tensor): ``(B, 2)`` int64.

        Raises:
            ValueError: If it does not; the message says which ones it takes.
        """
        if pixels.dtype != torch.uint8 or not self._takes(pixels.shape):
            got = f'{_kind(pixels)} {tuple(pixels.shape)}'
            raise ValueError(f'this file takes uint8 pixels of {self._shapes}, got {got}')
        batch, _, *sides = pixels.shape
        if sizes.dtype != torch.int64 or tuple(sizes.shape) != (batch, 2):
            raise ValueError(
                f'sizes must be int64 ({batch}, 2), got {_kind(sizes)} {tuple(sizes.shape)}'
            )
        if (sizes < 1).any() or (sizes > torch.tensor(sides)).any():
            raise ValueError(
                f'sizes are heights and widths in pixels of {sides}, got {sizes.tolist()}'
            )

    @property
    def _shapes(self) -> str:
        if not self.dynamic:
            return f'({self.batch}, 3, {self.height}, {self.width})'
        return (
            f'(1 to {LARGEST_BATCH}, 3, H, W) with multiples of {DIVISOR} from '
            f'{SMALLEST_SIDE} to {LARGEST_SIDE} as H and W'
        )

    def _takes(self, shape: torch.Size) -> bool:
        """Whether this is a shape of pixels."""
        if len(shape) != 4 or shape[1] != 3 or any(side % DIVISOR for side in shape[2:]):
            return False
        given = zip((shape[0], *shape[2:]), self.limits.values(), strict=True)
        return all(least <= size <= greatest for size, (least, greatest) in given)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix('torch.')
