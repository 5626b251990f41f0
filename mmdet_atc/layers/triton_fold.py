"""A batch norm folded into a convolution: one Triton kernel for weight and bias."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def folded(
    weight: Tensor,
    conv_bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """As :func:`mmdet_atc.layers.conv_norm.folded_plain`; the weight's channels come last."""
    out = torch.empty_like(weight, dtype=dtype, memory_format=torch.channels_last)
    bias = torch.empty(len(weight), dtype=dtype, device=weight.device)
    per_filter = weight[0].numel()
    with torch.cuda.device_of(weight):
        _fold_kernel[(len(weight), triton.cdiv(per_filter, _BLOCK))](
            *(weight.contiguous(), mean, var, gain, shift, conv_bias, out, bias),
            eps,
            weight.shape[1],
            weight.shape[2] * weight.shape[3],
            BLOCK=_BLOCK,
        )
    return out, bias


@triton.jit
def _fold_kernel(
    weight,
    mean,
    var,
    gain,
    shift,
    conv_bias,
    out,
    bias,
    eps,
    channels,
    taps,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    scale = 1 / tl.sqrt(tl.load(var + row).to(tl.float32) + eps)
    if gain is not None:
        scale *= tl.load(gain + row).to(tl.float32)
    inside = at < channels * taps
    found = tl.load(weight + row * channels * taps + at, mask=inside, other=0).to(tl.float32)
    # From (channel, tap) to (tap, channel).
    to = row * channels * taps + at % taps * channels + at // taps
    tl.store(out + to, found * scale, mask=inside)
    if tl.program_id(1) == 0:
        offset = -tl.load(mean + row).to(tl.float32)
        if conv_bias is not None:
            offset += tl.load(conv_bias + row).to(tl.float32)
        offset *= scale
        if shift is not None:
            offset += tl.load(shift + row).to(tl.float32)
        tl.store(bias + row, offset)
