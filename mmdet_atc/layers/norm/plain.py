"""Layer norm and the residual before it in plain torch: the specification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype | None = None
) -> Tensor:
    """Layer norm over the last dimension (Ba et al., 2016), statistics in float32 or better.

    Arguments and result as of :func:`mmdet_atc.layers.layer_norm`; None is the dtype of ``x``.
    """
    full = torch.promote_types(x.dtype, torch.float32)
    out = F.layer_norm(x.to(full), weight.shape, weight.to(full), bias.to(full), eps)
    return out.to(dtype or x.dtype)


def add_layer_norm(
    x: Tensor,
    branch: Tensor,
    scale: Tensor | None,
    keep: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """``x + keep * scale * branch``, and the layer norm of that.

    Arguments and results as of :func:`mmdet_atc.layers.add_layer_norm`.
    """
    full = torch.promote_types(x.dtype, torch.float32)
    factor = None if keep is None else keep.to(full)[:, None, None]
    if scale is not None:
        factor = scale.to(full) if factor is None else scale.to(full) * factor
    if factor is None:
        total = x + branch.to(full)
    else:
        total = torch.addcmul(x.to(full), branch.to(full), factor)
    total = total.to(x.dtype)
    return total, layer_norm(total, weight, bias, eps, dtype)
