"""Max pooling of channels-last maps, 3×3 of stride 2, as a Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Pixels of a row at a time.
_COLS = 32


def max_pool(x: Tensor) -> Tensor:
    """As ``F.max_pool2d(x, 3, 2, 1)`` of a channels-last map ``(B, C, H, W)``."""
    batch, channels, height, width = x.shape
    rows, cols = (height + 1) // 2, (width + 1) // 2
    last = torch.channels_last
    out = torch.empty(
        (batch, channels, rows, cols), dtype=x.dtype, device=x.device, memory_format=last
    )
    with torch.cuda.device_of(x):
        _pool_kernel[(triton.cdiv(cols, _COLS), rows, batch)](
            *(x, out, height, width, rows, cols, channels),
            CHANNELS=triton.next_power_of_2(channels),
            COLS=_COLS,
        )
    return out


@triton.jit
def _pool_kernel(
    x,
    out,
    height,
    width,
    rows,
    cols,
    channels,
    CHANNELS: tl.constexpr,
    COLS: tl.constexpr,
):
    image, row = tl.program_id(2).to(tl.int64), tl.program_id(1)
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    channel = tl.arange(0, CHANNELS)[None, :]
    is_channel = channel < channels
    found = tl.full((COLS, CHANNELS), float('-inf'), out.dtype.element_ty)
    for index in tl.static_range(9):
        y = 2 * row + index // 3 - 1
        right = 2 * col + index % 3 - 1
        inside = ((y >= 0) & (y < height) & (right >= 0) & (right < width))[:, None]
        at = ((image * height + y) * width + right)[:, None] * channels + channel
        value = tl.load(x + at, mask=inside & is_channel, other=float('-inf'))
        found = tl.maximum(found, value, propagate_nan=tl.PropagateNan.ALL)
    to = ((image * rows + row) * cols + col)[:, None] * channels + channel
    tl.store(out + to, found, mask=(col < cols)[:, None] & is_channel)
