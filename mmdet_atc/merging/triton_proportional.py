"""Proportional attention on a GPU: Triton kernels, no mask.

FlashAttention-2 (Dao, 2023), with log sizes added to the logits where they are in registers, in
float32. Programs share no sums, so results are the same in each call.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Queries and keys per step: the fastest on an H100 for heads of 64 channels (float32: untuned).
_FORWARD = dict(QUERIES=64, KEYS=128, num_warps=4, num_stages=3)
_FORWARD_FLOAT32 = dict(QUERIES=64, KEYS=64, num_warps=4, num_stages=2)
_OF_QUERIES = dict(QUERIES=64, KEYS=128, num_warps=4, num_stages=3)
_OF_KEYS = dict(QUERIES=128, KEYS=64, num_warps=4, num_stages=2)
#: A float32 product is three TF32 products on tensor cores, which is as exact.
_PRECISION = tl.constexpr('tf32x3')
#: Logits are to base 2, their gradients to base e.
_LOG_2 = tl.constexpr(math.log(2))


def attention(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`mmdet_atc.merging.proportional.proportional_attention`, ``(B, T, heads, D)``.

    q, k and v have the same strides, and their channels lie side by side. Also, for the gradient,
    each query's logarithm to base 2 of the sum of all powers, ``(B, heads, T)`` float32.
    """
    batch, heads, num_tokens, head_dim = q.shape
    out = q.new_empty(batch, num_tokens, heads, head_dim)
    logs = q.new_empty(batch, heads, num_tokens, dtype=torch.float32)
    options = _FORWARD if q.dtype.itemsize == 2 else _FORWARD_FLOAT32
    options = _fitting(options, head_dim)
    with torch.cuda.device_of(q):
        _attend_kernel[(triton.cdiv(num_tokens, options['QUERIES']), heads, batch)](
            *(q, k, v, sizes.float().log2(), out, logs),
            *q.stride()[:3],
            num_tokens,
            head_dim**-0.5 / math.log(2),
            HEADS=heads,
            HEAD_DIM=head_dim,
            **options,
        )
    return out, logs


def attention_backward(
    q: Tensor, k: Tensor, v: Tensor, sizes: Tensor, out: Tensor, logs: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, ``(B, heads, T, D)``, from that of ``out``."""
    batch, heads, num_tokens, head_dim = q.shape
    grads = [q.new_empty(batch, num_tokens, heads, head_dim) for _ in range(3)]
    inner = torch.empty_like(logs)
    tensors = q, k, v, sizes.float().log2(), out, logs, grad.contiguous(), inner
    with torch.cuda.device_of(q):
        for kernel, results, of_program, options in (
            (_queries_kernel, grads[:1], 'QUERIES', _fitting(_OF_QUERIES, head_dim)),
            # Takes `inner` from the former.
            (_keys_kernel, grads[1:], 'KEYS', _fitting(_OF_KEYS, head_dim)),
        ):
            kernel[(triton.cdiv(num_tokens, options[of_program]), heads, batch)](
                *tensors,
                *results,
                *q.stride()[:3],
                num_tokens,
                head_dim**-0.5 / math.log(2),
                HEADS=heads,
                HEAD_DIM=head_dim,
                **options,
            )
    of_q, of_k, of_v = (x.transpose(1, 2) for x in grads)
    return of_q, of_k, of_v


def _fitting(options: dict[str, int], head_dim: int) -> dict[str, int]:
    """Smaller steps for larger heads: other GPUs have 99 KiB of shared memory."""
    if head_dim <= 64:
        return options
    larger = max('KEYS', 'QUERIES', key=lambda name: options[name])
    return {**options, larger: 64 * options[larger] // head_dim, 'num_stages': 2}


@triton.jit
def _attend_kernel(
    q,
    k,
    v,
    log_sizes,
    out,
    logs,
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
    start = image * image_stride + head * head_stride
    queries = _load(q + start, query, token_stride, num_tokens, HEAD_DIM, True)
    k += start
    v += start
    log_sizes += image * num_tokens

    largest = tl.full((QUERIES,), float('-inf'), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    found = tl.zeros((QUERIES, HEAD_DIM), tl.float32)
    whole = num_tokens // KEYS * KEYS
    for first in range(0, whole, KEYS):
        largest, total, found = _attend_to(
            *(queries, k, v, log_sizes, first, num_tokens, token_stride, scale),
            *(largest, total, found),
            HEAD_DIM,
            KEYS,
            False,
        )
    if whole < num_tokens:
        largest, total, found = _attend_to(
            *(queries, k, v, log_sizes, whole, num_tokens, token_stride, scale),
            *(largest, total, found),
            HEAD_DIM,
            KEYS,
            True,
        )
    own = image * num_tokens * HEADS + head
    _store(out + own * HEAD_DIM, query, HEADS * HEAD_DIM, num_tokens, found / total[:, None])
    row = (image * HEADS + head) * num_tokens
    tl.store(logs + row + query, largest + tl.log2(total), mask=query < num_tokens)


@triton.jit
def _attend_to(
    queries,
    k,
    v,
    log_sizes,
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
    keys = _load(k, key, token_stride, num_tokens, HEAD_DIM, IS_LAST)
    values = _load(v, key, token_stride, num_tokens, HEAD_DIM, IS_LAST)
    logits = _logits(queries, keys, scale, log_sizes, key, num_tokens, IS_LAST)
    now = tl.maximum(largest, tl.max(logits, 1))
    powers = tl.exp2(logits - now[:, None])
    fade = tl.exp2(largest - now)
    total = total * fade + tl.sum(powers, 1)
    powers = powers.to(values.dtype)
    found = tl.dot(powers, values, found * fade[:, None], input_precision=_PRECISION)
    return now, total, found


@triton.jit
def _queries_kernel(
    q,
    k,
    v,
    log_sizes,
    out,
    logs,
    grad,
    inner,
    of_q,
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
    """Gradients of some queries, and each one's product of ``out`` and its gradient."""
    image, head = tl.program_id(2).to(tl.int64), tl.program_id(1)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    is_query = query < num_tokens
    start = image * image_stride + head * head_stride
    own = (image * num_tokens * HEADS + head) * HEAD_DIM
    row = (image * HEADS + head) * num_tokens
    log_sizes += image * num_tokens
    queries = _load(q + start, query, token_stride, num_tokens, HEAD_DIM, True)
    outs = _load(out + own, query, HEADS * HEAD_DIM, num_tokens, HEAD_DIM, True)
    grads = _load(grad + own, query, HEADS * HEAD_DIM, num_tokens, HEAD_DIM, True)
    product = tl.sum(outs.to(tl.float32) * grads.to(tl.float32), 1)
    tl.store(inner + row + query, product, mask=is_query)
    log = tl.load(logs + row + query, mask=is_query, other=0)

    found = tl.zeros((QUERIES, HEAD_DIM), tl.float32)
    for first in range(0, num_tokens, KEYS):
        key = first + tl.arange(0, KEYS)
        keys = _load(k + start, key, token_stride, num_tokens, HEAD_DIM, True)
        values = _load(v + start, key, token_stride, num_tokens, HEAD_DIM, True)
        logits = _logits(queries, keys, scale, log_sizes, key, num_tokens, True)
        shares = tl.exp2(logits - log[:, None])
        of_logits = shares * (tl.dot(grads, tl.trans(values)) - product[:, None])
        found = tl.dot(of_logits.to(keys.dtype), keys, found)
    _store(of_q + own, query, HEADS * HEAD_DIM, num_tokens, found * (scale * _LOG_2))


@triton.jit
def _keys_kernel(
    q,
    k,
    v,
    log_sizes,
    out,
    logs,
    grad,
    inner,
    of_k,
    of_v,
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
    """Gradients of some keys and values."""
    image, head = tl.program_id(2).to(tl.int64), tl.program_id(1)
    key = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    start = image * image_stride + head * head_stride
    own = (image * num_tokens * HEADS + head) * HEAD_DIM
    row = (image * HEADS + head) * num_tokens
    keys = _load(k + start, key, token_stride, num_tokens, HEAD_DIM, True)
    values = _load(v + start, key, token_stride, num_tokens, HEAD_DIM, True)
    log_size = tl.load(log_sizes + image * num_tokens + key, mask=key < num_tokens, other=0)

    found_k = tl.zeros((KEYS, HEAD_DIM), tl.float32)
    found_v = tl.zeros((KEYS, HEAD_DIM), tl.float32)
    for first in range(0, num_tokens, QUERIES):
        query = first + tl.arange(0, QUERIES)
        is_query = query < num_tokens
        queries = _load(q + start, query, token_stride, num_tokens, HEAD_DIM, True)
        grads = _load(grad + own, query, HEADS * HEAD_DIM, num_tokens, HEAD_DIM, True)
        # Of queries beyond the last one shares are 0.
        log = tl.load(logs + row + query, mask=is_query, other=float('inf'))
        product = tl.load(inner + row + query, mask=is_query, other=0)
        logits = tl.dot(keys, tl.trans(queries)) * scale + log_size[:, None]
        shares = tl.exp2(logits - log[None, :])
        found_v = tl.dot(shares.to(grads.dtype), grads, found_v)
        of_logits = shares * (tl.dot(values, tl.trans(grads)) - product[None, :])
        found_k = tl.dot(of_logits.to(queries.dtype), queries, found_k)
    _store(of_k + own, key, HEADS * HEAD_DIM, num_tokens, found_k * (scale * _LOG_2))
    _store(of_v + own, key, HEADS * HEAD_DIM, num_tokens, found_v)


@triton.jit
def _logits(queries, keys, scale, log_sizes, key, num_tokens, IS_LAST: tl.constexpr):
    """To base 2, ``(QUERIES, KEYS)``; of keys beyond the last one -inf."""
    if IS_LAST:
        log_size = tl.load(log_sizes + key, mask=key < num_tokens, other=float('-inf'))
    else:
        log_size = tl.load(log_sizes + key)
    products = tl.dot(queries, tl.trans(keys), input_precision=_PRECISION)
    return products * scale + log_size[None, :]


@triton.jit
def _load(x, token, stride, num_tokens, HEAD_DIM: tl.constexpr, IS_LAST: tl.constexpr):
    """Tokens ``(n, HEAD_DIM)``; those beyond the last one are zero."""
    at = token[:, None] * stride + tl.arange(0, HEAD_DIM)[None, :]
    if IS_LAST:
        return tl.load(x + at, mask=(token < num_tokens)[:, None], other=0)
    return tl.load(x + at)


@triton.jit
def _store(x, token, stride, num_tokens, values):
    at = token[:, None] * stride + tl.arange(0, values.shape[1])[None, :]
    tl.store(x + at, values, mask=(token < num_tokens)[:, None])
