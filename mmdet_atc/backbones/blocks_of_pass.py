"""The blocks of one forward pass, between an Injector and its Extractor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .vit_adapter import ViTAdapter


class BlocksOfPass:
    """Runs some blocks after others; register tokens stay here while the adapter sees patches.

    Args:
        backbone (ViTAdapter): Whose blocks.
    """

    def __init__(self, backbone: ViTAdapter) -> None:
        self.backbone = backbone
        self._registers: Tensor | None = None

    def __call__(self, patches: Tensor, indices: range, grid: tuple[int, int]) -> Tensor:
        """Patches ``(B, N, C)`` of a grid through the blocks of the indices."""
        tokens = self.with_registers(patches)
        for index in indices:
            tokens = self.run(index, tokens, grid)
        return self.without_registers(tokens)

    def run(self, index: int, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """One block on registers and patches, ``(B, R + N, C)``."""
        return self.backbone.blocks[index](tokens, grid)

    def with_registers(self, patches: Tensor) -> Tensor:
        """The registers as the last block left them, then the patches: ``(B, R + N, C)``."""
        if not self.backbone.num_registers:
            return patches
        if self._registers is None:
            self._registers = self.backbone.register_tokens(patches)
        return torch.cat([self._registers, patches], dim=1)

    def without_registers(self, tokens: Tensor) -> Tensor:
        """The patches alone; the registers are kept for the next blocks."""
        count = self.backbone.num_registers
        if not count:
            return tokens
        self._registers = tokens[:, :count]
        return tokens[:, count:]
