"""Max pooling of the spatial prior module's stem, 3×3 of stride 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet_atc.native import can_run_triton, operator


class StemMaxPool(nn.MaxPool2d):
    """``nn.MaxPool2d(3, 2, 1)``, on a GPU in inference of channels-last maps by a kernel of ours.

    torch's runs at a fifth of the memory's bandwidth there.
    """

    def __init__(self) -> None:
        super().__init__(kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, ceil(H / 2), ceil(W / 2))``."""
        is_last = can_run_triton(x) and x.is_contiguous(memory_format=torch.channels_last)
        if is_last and not torch.is_grad_enabled():
            return _max_pool(x)
        return super().forward(x)


@operator('mmdet_atc::max_pool', '(Tensor x) -> Tensor', device='cuda')
def _max_pool(x: Tensor) -> Tensor:
    from .triton_pooling import max_pool

    return max_pool(x)


@_max_pool.register_fake
def _(x):
    batch, channels, height, width = x.shape
    shape = batch, channels, (height + 1) // 2, (width + 1) // 2
    return x.new_empty(shape).to(memory_format=torch.channels_last)
