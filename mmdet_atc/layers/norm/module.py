"""Layer norm as a module that also adds the residual before it."""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmdet_atc.native import can_run_triton

from ..residual import add_residual
from .api import add_layer_norm, layer_norm


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` whose result is in autocast's dtype where that is on."""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)

    def after_adding(
        self, x: Tensor, branch: Tensor, scale: Tensor | None, drop_path: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """The residual stream after a branch, and the norm of it, on a GPU in one pass.

        Args:
            x (Tensor): The residual stream, ``(B, N, C)``.
            branch (Tensor): What is added to it, ``(B, N, C)``; nothing else may hold it.
            scale (Tensor, optional): LayerScale of the branch, ``(C,)``.
            drop_path (nn.Module): Stochastic depth of the branch.

        Returns:
            tuple[Tensor, Tensor]: The sum and its norm, ``(B, N, C)`` each.
        """
        if not can_run_triton(x):
            x = add_residual(x, drop_path(branch), scale)
            return x, self(x)
        keep = _kept_images(drop_path, x)
        return add_layer_norm(x, branch, scale, keep, self.weight, self.bias, self.eps)


def _kept_images(drop_path: nn.Module, x: Tensor) -> Tensor | None:
    """What timm's ``DropPath`` multiplies each image's branch by, ``(B,)``; None for one."""
    if not isinstance(drop_path, DropPath) or not drop_path.training or not drop_path.drop_prob:
        return None
    share = 1 - drop_path.drop_prob
    return torch.empty(len(x), device=x.device).bernoulli_(share).div_(share)
