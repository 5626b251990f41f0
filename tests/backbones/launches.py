"""How many kernels a forward pass on a GPU starts, and the bytes they move, counted without one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_atc.backbones.geometry import _kept_geometry
from mmdet_atc.backbones.pos_embed import _kept_weights
from mmdet_atc.studies.speed.launches import Launches


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Launches]:
    """Tensors are made on a GPU that is not there and hold nothing; yields what is to be entered.

    Autocast to float16 is on. Attention and cuDNN's convolution with ReLU, which are one operation
    each on a GPU only, are put in by hand.
    """
    launches = Launches()

    def attention(q, k, v, attn_mask=None, scale=None, dropout_p=0.0):
        out = q.new_empty(len(q), q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
        launches.add('attention', q, k, v, out)
        return out

    def conv_relu(x, weight, bias, stride, padding, dilation, groups):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    own = F.scaled_dot_product_attention, torch.cudnn_convolution_relu
    available = torch.backends.cudnn.is_available
    _forget_constants()
    try:
        F.scaled_dot_product_attention, torch.cudnn_convolution_relu = attention, conv_relu
        torch.backends.cudnn.is_available = lambda: True
        torch.set_default_device('cuda')
        torch.set_autocast_enabled('cuda', True)
        torch.set_autocast_dtype('cuda', torch.float16)
        with FakeTensorMode(), torch.no_grad():
            yield launches
    finally:
        _forget_constants()
        F.scaled_dot_product_attention, torch.cudnn_convolution_relu = own
        torch.backends.cudnn.is_available = available
        torch.set_default_device(None)  # a device by name would stay a mode that breaks compiling
        torch.set_autocast_enabled('cuda', False)


def _forget_constants() -> None:
    """Those of a GPU that is not there are of no use to other tests."""
    _kept_geometry.cache_clear()
    _kept_weights.cache_clear()


def counted(build, height: int, width: int, batch: int = 1) -> Launches:
    """Launches of a backbone's second forward pass."""
    with pretended_gpu() as launches:
        model: nn.Module = build().eval()
        image = torch.empty(batch, 3, height, width)
        model(image)  # constants of the size
        launches.clear()
        with launches:
            model(image)
    return launches
