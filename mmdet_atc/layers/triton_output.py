"""An output map in one pass: sum of its parts, batch norm, one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .maps import to_tokens

_PIXELS, _CHANNELS = 16, 128


def output_map(
    base: Tensor,
    shape: tuple[int, int],
    quads: Tensor | None,
    feature: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    gain: Tensor | None,
    shift: Tensor | None,
    eps: float,
) -> Tensor:
    """As :func:`mmdet_atc.layers.output_maps.output_map_plain`."""
    batch, pixels, channels = base.shape
    height, width = shape
    out = base.new_empty(batch, pixels, channels)
    # Tokens, which a map whose channels come last is.
    rows, cols = shape if feature is None else feature.shape[-2:]
    feature = None if feature is None else to_tokens(feature)
    launch = triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, _CHANNELS), batch
    with torch.cuda.device_of(base):
        _output_kernel[launch](
            *(base, quads, feature, mean, var, gain, shift, out),
            base.stride(0),
            0 if quads is None else quads.stride(0),
            0 if feature is None else feature.stride(0),
            pixels,
            width,
            rows,
            cols,
            rows / height,
            cols / width,
            eps,
            C=channels,
            PIXELS=_PIXELS,
            CHANNELS=_CHANNELS,
        )
    return out


@triton.jit
def _output_kernel(
    base,
    quads,
    feature,
    mean,
    var,
    gain,
    shift,
    out,
    base_stride,
    quads_stride,
    feature_stride,
    pixels,
    width,
    grid_height,
    grid_width,
    rows_each,
    cols_each,
    eps,
    C: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    mask = (pixel < pixels)[:, None] & (channel < C)
    row, col = pixel // width, pixel % width
    total = tl.load(base + image * base_stride + pixel[:, None] * C + channel, mask=mask, other=0)
    total = total.to(tl.float32)
    if quads is not None:
        # The pixel's token one level up, and its quarter of what that gives: (y, x, channel).
        token = row // 2 * (width // 2) + col // 2
        quarter = token * 4 + row % 2 * 2 + col % 2
        at = quads + image * quads_stride + quarter[:, None] * C + channel
        total += tl.load(at, mask=mask, other=0).to(tl.float32)
    if feature is not None:
        y = tl.maximum((row + 0.5) * rows_each - 0.5, 0)
        x = tl.maximum((col + 0.5) * cols_each - 0.5, 0)
        top = tl.minimum(y.to(tl.int32), grid_height - 1)
        left = tl.minimum(x.to(tl.int32), grid_width - 1)
        down, right = tl.minimum(top + 1, grid_height - 1), tl.minimum(left + 1, grid_width - 1)
        y, x = (y - top)[:, None], (x - left)[:, None]
        at = feature + image * feature_stride + channel
        top, down = at + top[:, None] * grid_width * C, at + down[:, None] * grid_width * C
        left, right = left[:, None] * C, right[:, None] * C
        above = (1 - x) * tl.load(top + left, mask=mask, other=0).to(tl.float32)
        above += x * tl.load(top + right, mask=mask, other=0).to(tl.float32)
        below = (1 - x) * tl.load(down + left, mask=mask, other=0).to(tl.float32)
        below += x * tl.load(down + right, mask=mask, other=0).to(tl.float32)
        total += (1 - y) * above + y * below
    if var is not None:
        is_channel = channel < C
        scale = 1 / tl.sqrt(tl.load(var + channel, mask=is_channel, other=1).to(tl.float32) + eps)
        if gain is not None:
            scale *= tl.load(gain + channel, mask=is_channel, other=0).to(tl.float32)
        total = (total - tl.load(mean + channel, mask=is_channel, other=0).to(tl.float32)) * scale
        if shift is not None:
            total += tl.load(shift + channel, mask=is_channel, other=0).to(tl.float32)
    tl.store(out + (image * pixels + pixel[:, None]) * C + channel, total, mask=mask)
