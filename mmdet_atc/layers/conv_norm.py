"""Convolutions with the batch norms after them folded in."""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights


class ConvNormSequential(nn.Sequential):
    """``nn.Sequential`` that, in inference, folds a batch norm into the convolution before it.

    One pass over the largest maps of the network less, and one map less in memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        # A compiler folds by itself.
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        modules = list(self)
        for module, following in zip(modules, [*modules[1:], None], strict=True):
            if isinstance(module, nn.Conv2d) and _is_foldable(following):
                assert following.running_mean is not None
                assert following.running_var is not None
                weight, bias = fuse_conv_bn_weights(
                    module.weight,
                    module.bias,
                    following.running_mean,
                    following.running_var,
                    following.eps,
                    following.weight,
                    following.bias,
                )
                # Autocast would keep a copy of each, as of any parameter, until its block ends.
                x = F.conv2d(x, weight.detach(), bias.detach(), module.stride, module.padding)
            elif not _is_foldable(module):
                x = module(x)
        return x


def _is_foldable(module: nn.Module | None) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and not module.training and module.track_running_stats
