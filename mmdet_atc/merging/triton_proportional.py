"""Queries, keys and values with log sizes in further channels, by one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TOKENS = 16


def folded(
    q: Tensor, k: Tensor, v: Tensor, sizes: Tensor, pad: int, factor: float, share: float
) -> Tensor:
    """:func:`mmdet_atc.merging.proportional.folded_plain`'s results as one tensor.

    q, k and v have the same strides; ``(3, B, T, heads, D + pad)``.
    """
    batch, heads, num_tokens, head_dim = q.shape
    out = q.new_empty(3, batch, num_tokens, heads, head_dim + pad)
    with torch.cuda.device_of(q):
        _fold_kernel[(triton.cdiv(num_tokens, _TOKENS), heads, batch)](
            q,
            k,
            v,
            sizes.contiguous(),
            out,
            *q.stride(),
            num_tokens,
            factor,
            share,
            HEADS=heads,
            HEAD_DIM=head_dim,
            WIDTH=head_dim + pad,
            BLOCK=triton.next_power_of_2(head_dim + pad),
            TOKENS=_TOKENS,
        )
    return out


@triton.jit
def _fold_kernel(
    q,
    k,
    v,
    sizes,
    out,
    image_stride,
    head_stride,
    token_stride,
    channel_stride,
    num_tokens,
    factor,
    share,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    image, head = tl.program_id(2).to(tl.int64), tl.program_id(1)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channel = tl.arange(0, BLOCK)[None, :]
    is_token = token < num_tokens
    mask = is_token[:, None] & (channel < HEAD_DIM)
    at = image * image_stride + head * head_stride
    at = at + token[:, None] * token_stride + channel * channel_stride
    DTYPE: tl.constexpr = out.dtype.element_ty
    size = tl.load(sizes + image * num_tokens + token, mask=is_token, other=1)
    bias = share * tl.log(size.to(tl.float32))
    coarse = bias.to(DTYPE)
    fine = (bias - coarse.to(tl.float32)).to(DTYPE)
    queries = tl.load(q + at, mask=mask, other=0)
    keys = tl.load(k + at, mask=mask, other=0)
    values = tl.load(v + at, mask=mask, other=0)
    is_new = (channel == HEAD_DIM) | (channel == HEAD_DIM + 1)
    queries = tl.where(is_new, tl.full((1, 1), factor, tl.float32).to(DTYPE), queries)
    keys = tl.where(channel == HEAD_DIM, coarse[:, None], keys)
    keys = tl.where(channel == HEAD_DIM + 1, fine[:, None], keys)
    to = ((image * num_tokens + token[:, None]) * HEADS + head) * WIDTH + channel
    step = tl.num_programs(2).to(tl.int64) * num_tokens * HEADS * WIDTH
    inside = is_token[:, None] & (channel < WIDTH)
    tl.store(out + to, queries, mask=inside)
    tl.store(out + step + to, keys, mask=inside)
    tl.store(out + 2 * step + to, values, mask=inside)
