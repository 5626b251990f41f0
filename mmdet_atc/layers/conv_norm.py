"""Convolutions with the batch norms after them folded in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mmdet_atc.native import can_run_triton, operator

from .precision import autocast_dtype

_Fold = Callable[..., tuple[Tensor, Tensor]]


class ConvNormSequential(nn.Sequential):
    """``nn.Sequential`` that, in inference, folds a batch norm into the convolution before it.

    One pass over the largest maps of the network less, and one map less in memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        # A compiler folds by itself.
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        dtype = autocast_dtype(x.device.type) or x.dtype
        foldable = self.foldable()
        modules = iter(self)
        for module in modules:
            if module not in foldable:
                x = module(x)
                continue
            norm = next(modules)
            assert isinstance(module, nn.Conv2d)
            assert isinstance(norm, _BatchNorm)
            weight, bias = folded(module, norm, dtype)
            following = next(modules, None)
            if isinstance(following, nn.ReLU):
                x = _conv_relu(x.to(dtype), weight, bias, module)
            else:
                x = F.conv2d(x, weight, bias, module.stride, module.padding)
                x = x if following is None else following(x)
        return x

    def foldable(self) -> dict[nn.Conv2d, _BatchNorm]:
        """The convolutions that a batch norm is folded into now, with it."""
        return {
            a: b for a, b in itertools.pairwise(self) if isinstance(a, nn.Conv2d) and is_foldable(b)
        }


def folded(conv: nn.Conv2d, norm: _BatchNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm after it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    statistics = norm.running_mean, norm.running_var
    parameters = conv.weight, conv.bias, *statistics, norm.weight, norm.bias
    # Autocast would keep a copy of each, as of any parameter, until its block ends.
    tensors = [None if x is None else x.detach() for x in parameters]
    form = _folded if can_run_triton(conv.weight) else folded_plain
    return cast(_Fold, form)(*tensors, norm.eps, dtype)


def folded_plain(
    weight: Tensor,
    conv_bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """:func:`folded` in plain torch, of the tensors of both."""
    weight, bias = fuse_conv_bn_weights(weight, conv_bias, mean, var, eps, gain, shift)
    return weight.detach().to(dtype), bias.detach().to(dtype)


@operator(
    'mmdet_atc::folded_norm',
    '(Tensor weight, Tensor? conv_bias, Tensor mean, Tensor var, Tensor? gain, Tensor? shift, '
    'float eps, ScalarType dtype) -> (Tensor, Tensor)',
    device='cuda',
)
def _folded(weight, conv_bias, mean, var, gain, shift, eps, dtype):
    from . import triton_fold

    return triton_fold.folded(weight, conv_bias, mean, var, gain, shift, eps, dtype)


@_folded.register_fake
def _(weight, conv_bias, mean, var, gain, shift, eps, dtype):
    out = torch.empty_like(weight, dtype=dtype, memory_format=torch.channels_last)
    return out, weight.new_empty(len(weight), dtype=dtype)


def _conv_relu(x: Tensor, weight: Tensor, bias: Tensor, conv: nn.Conv2d) -> Tensor:
    if x.is_cuda and x.dtype.itemsize < 4 and torch.backends.cudnn.is_available():
        padding = cast(tuple[int, ...], conv.padding)
        options = conv.stride, padding, conv.dilation, conv.groups
        return torch.cudnn_convolution_relu(x, weight, bias, *options)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding).relu_()


def is_foldable(module: nn.Module | None) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and not module.training and module.track_running_stats
