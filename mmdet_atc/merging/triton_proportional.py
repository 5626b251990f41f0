"""Proportional attention on a GPU in half precision, for inference: one Triton kernel, no mask.

FlashAttention-2 (Dao, 2023), with log sizes added to the logits where they are in registers, in
float32.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_OPTIONS = dict(QUERIES=64, KEYS=128, num_warps=4, num_stages=3)


def attention(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor) -> Tensor:
    """As :func:`mmdet_atc.merging.proportional.proportional_attention`, ``(B, T, heads, D)``.

    q, k and v have the same strides, and their channels lie side by side.
    """
    batch, heads, num_tokens, head_dim = q.shape
    out = q.new_empty(batch, num_tokens, heads, head_dim)
    with torch.cuda.device_of(q):
        _attend_kernel[(triton.cdiv(num_tokens, _OPTIONS['QUERIES']), heads, batch)](
            *(q, k, v, sizes.contiguous(), out),
            *q.stride()[:3],
            num_tokens,
            head_dim**-0.5 / math.log(2),
            HEADS=heads,
            HEAD_DIM=head_dim,
            **_OPTIONS,
        )
    return out


@triton.jit
def _attend_kernel(
    q,
    k,
    v,
    sizes,
    out,
    image_stride,
    head_stride,
    token_stride,
    num_tokens,
    scale,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    image, head = tl.program_id(2).to(tl.int64), tl.program_id(1)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, HEAD_DIM)
    start = image * image_stride + head * head_stride
    is_query = (query < num_tokens)[:, None]
    at = start + query[:, None] * token_stride + channel[None, :]
    queries = tl.load(q + at, mask=is_query, other=0)
    k += start
    v += start
    sizes += image * num_tokens

    largest = tl.full((QUERIES,), float('-inf'), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    found = tl.zeros((QUERIES, HEAD_DIM), tl.float32)
    whole = num_tokens // KEYS * KEYS
    for first in range(0, whole, KEYS):
        largest, total, found = _step(
            *(queries, k, v, sizes, first, num_tokens, token_stride, scale),
            *(largest, total, found),
            HEAD_DIM,
            KEYS,
            False,
        )
    if whole < num_tokens:
        largest, total, found = _step(
            *(queries, k, v, sizes, whole, num_tokens, token_stride, scale),
            *(largest, total, found),
            HEAD_DIM,
            KEYS,
            True,
        )
    to = ((image * num_tokens + query[:, None]) * HEADS + head) * HEAD_DIM + channel[None, :]
    tl.store(out + to, found / total[:, None], mask=is_query)


@triton.jit
def _step(
    queries,
    k,
    v,
    sizes,
    first,
    num_tokens,
    token_stride,
    scale,
    largest,
    total,
    found,
    HEAD_DIM: tl.constexpr,
    KEYS: tl.constexpr,
    IS_LAST: tl.constexpr,
):
    """Some keys more: the largest logit so far, and sums of powers and of values times powers."""
    key = first + tl.arange(0, KEYS)
    channel = tl.arange(0, HEAD_DIM)
    at_keys = k + key[None, :] * token_stride + channel[:, None]
    at_values = v + key[:, None] * token_stride + channel[None, :]
    if IS_LAST:
        is_key = key < num_tokens
        keys = tl.load(at_keys, mask=is_key[None, :], other=0)
        values = tl.load(at_values, mask=is_key[:, None], other=0)
        size = tl.load(sizes + key, mask=is_key, other=0).to(tl.float32)
    else:
        keys, values = tl.load(at_keys), tl.load(at_values)
        size = tl.load(sizes + key).to(tl.float32)
    # Powers of two; of keys beyond the last one the logarithm is -inf.
    logits = tl.dot(queries, keys) * scale + tl.log2(size)[None, :]
    now = tl.maximum(largest, tl.max(logits, 1))
    powers = tl.exp2(logits - now[:, None])
    fade = tl.exp2(largest - now)
    total = total * fade + tl.sum(powers, 1)
    found = tl.dot(powers.to(values.dtype), values, found * fade[:, None])
    return now, total, found
