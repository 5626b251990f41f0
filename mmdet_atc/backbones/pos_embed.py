"""Position embeddings of grids other than the pretraining one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Grids whose embedding is kept; one of 800×1333 in DeiT-Small takes 6 MiB.
_MOST_KEPT = 8


class PosEmbedResizer:
    """Resizes a position embedding, in inference on the CPU once per grid.

    What is kept is used only while the embedding has not changed. That is looked at in every call,
    which takes microseconds: weights are exchanged in place as well, for example by EMA. On a GPU
    looking would wait for the device, and resizing takes no longer.

    Args:
        side (int): Height and width of the pretraining grid in patches.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
        """Position embedding of a grid, bicubic.

        Args:
            pos_embed (Tensor): ``(1, 1 + side * side, C)``; the class token's comes first.
            grid (tuple[int, int]): Height and width in patches, N in number.

        Returns:
            Tensor: ``(1, N, C)``, not to be written to.
        """
        is_kept = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        if not is_kept or pos_embed.device.type != 'cpu':
            return self._resized(pos_embed, grid)
        kept = self._kept.get(grid)
        if kept is None or kept[0].dtype != pos_embed.dtype or not torch.equal(kept[0], pos_embed):
            # Made in inference mode, a tensor could not be used outside of it.
            with torch.inference_mode(False), torch.no_grad():
                kept = pos_embed.detach().clone(), self._resized(pos_embed, grid)
            self._kept.pop(grid, None)
            self._kept[grid] = kept
            if len(self._kept) > _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return kept[1]

    def _resized(self, pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
        embed = pos_embed[:, 1:].unflatten(1, (self._side, self._side)).permute(0, 3, 1, 2)
        embed = F.interpolate(embed, size=grid, mode='bicubic', align_corners=False)
        return embed.flatten(2).transpose(1, 2)
