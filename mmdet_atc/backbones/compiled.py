"""``torch.compile`` of a backbone for images of all sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Sides of images are multiples of it.
_UNIT = 32


def compile_for_all_sizes(module: nn.Module, **options) -> None:
    """As ``module.compile(dynamic=True, **options)``, in minutes.

    A convolution of stride 2 makes ``(s - 1) // 2 + 1`` of a side s, the next one rounds again, and
    the compiler simplifies sums and products of these (torch 2.11, for S on a CPU: for more than
    ten minutes). Of ``32 * n`` no rounding is left. So it is given images in units of 32 pixels,
    ``(B, 3, H / 32, 32, W / 32, 32)``.

    Args:
        module (nn.Module): Its calls take an image ``(B, 3, H, W)`` first.
        **options: Further arguments of ``torch.compile``.
    """

    def call_in_units(units: Tensor, *args, **kwargs):
        return module._call_impl(units.flatten(4, 5).flatten(2, 3), *args, **kwargs)

    compiled = torch.compile(call_in_units, dynamic=True, **options)

    def call(image: Tensor, *args, **kwargs):
        if image.ndim != 4 or any(side % _UNIT or not side for side in image.shape[2:]):
            return module._call_impl(image, *args, **kwargs)  # which says what is wrong
        units = image.unflatten(3, (-1, _UNIT)).unflatten(2, (-1, _UNIT))
        for tensor, dims in ((image, (1,)), (units, (1, 3, 5))):
            torch._dynamo.mark_static(tensor, list(dims))
        return compiled(units, *args, **kwargs)

    module._compiled_call_impl = call  # as nn.Module.compile does
