"""What a branch adds to the residual stream."""

from __future__ import annotations

import torch
from torch import Tensor


def add_residual(x: Tensor, out: Tensor, scale: Tensor | None = None) -> Tensor:
    """``scale * out + x``, in inference in the memory of ``out``, which nothing else may hold."""
    if torch.is_grad_enabled() or torch.promote_types(x.dtype, out.dtype) != out.dtype:
        return (out if scale is None else scale * out) + x
    if scale is None or scale.dtype != out.dtype:
        return (out if scale is None else scale * out).add_(x)
    return torch.addcmul(x, out, scale, out=out)
