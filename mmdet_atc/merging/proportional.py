"""Attention that is proportional to the sizes of merged tokens (ToMe, Bolya et al., ICLR 2023)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_atc.native import can_run_triton, operator

#: How many queries' attention :func:`received_attention` has in memory at a time.
_QUERIES_AT_A_TIME = 256
#: Fused kernels want rows of channels that are multiples of this.
_BYTES_OF_ROW = 16
#: Head dimensions of the kernel of our own.
_HEAD_DIMS = (16, 32, 64, 128)


def proportional_attention(
    q: Tensor, k: Tensor, v: Tensor, sizes: Tensor, dropout: float = 0.0
) -> Tensor:
    """Softmax attention with log(size) added to the logits of each key (ToMe, eq. 1).

    A GPU has kernels for it in half precision, and in inference in float32. Otherwise there the
    bias is folded into further channels of the queries and keys, since torch's kernels are slow
    with a mask. On the CPU the fused kernel takes a mask that is broadcast over queries, but only
    in the queries' type, and half precision is too coarse for it.

    Args:
        q (Tensor): Queries, ``(B, heads, T, D)``.
        k (Tensor): Keys, likewise.
        v (Tensor): Values, likewise.
        sizes (Tensor): Patches per token, ``(B, T)``.
        dropout (float): Share of the attention that is dropped. Default: 0.

    Returns:
        Tensor: ``(B, heads, T, D)``.
    """
    if _has_kernel(q, dropout):
        if len({x.stride() for x in (q, k, v)}) > 1 or q.stride(-1) != 1:
            q, k, v = (x.contiguous() for x in (q, k, v))
        return _attention(q, k, v, sizes)[0].transpose(1, 2)
    if q.is_cuda or q.dtype.itemsize < 4:
        return folded_attention(q, k, v, sizes, dropout)
    bias = sizes.log().to(q.dtype)[:, None, None, :]
    # The kernel wants as many batches and heads as the queries have; expanding copies nothing.
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias.expand(*q.shape[:2], q.shape[2], -1), dropout_p=dropout
    )


def folded_attention(
    q: Tensor, k: Tensor, v: Tensor, sizes: Tensor, dropout: float = 0.0
) -> Tensor:
    """:func:`proportional_attention` without a mask.

    With the scale s, ``s [q, c, c] . [k, a, b] = s q . k + log size`` where ``s c (a + b)`` is log
    size. c is a power of two and b what a lacks of it, so that nothing is lost in half precision.
    """
    head_dim = q.shape[-1]
    scale = head_dim**-0.5
    rest = -(head_dim + 2) % (_BYTES_OF_ROW // q.dtype.itemsize)
    factor = 2.0 ** round(-math.log2(scale))
    bias = sizes.to(torch.promote_types(sizes.dtype, torch.float32)).log() / (scale * factor)
    coarse = bias.to(k.dtype)
    parts = torch.stack((coarse, (bias - coarse).to(k.dtype)), -1).unsqueeze(1)
    parts = F.pad(parts, (0, rest)).expand(*k.shape[:3], -1)
    constants = F.pad(q.new_full((2,), factor), (0, rest)).expand(*q.shape[:3], -1)
    q, k = torch.cat((q, constants), -1), torch.cat((k, parts), -1)
    if v.dtype.itemsize < 4:  # flash kernels want values as wide as keys
        v = F.pad(v, (0, 2 + rest))
    out = F.scaled_dot_product_attention(q, k, v, scale=scale, dropout_p=dropout)
    return out[..., :head_dim]


@torch.no_grad()
def received_attention(q: Tensor, k: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Mean attention that each key receives, over heads and queries; never part of a graph.

    Fused kernels do not return attention: it is computed anew, some queries at a time, in float32
    or better.

    Args:
        q (Tensor): Queries, ``(B, heads, Q, D)``.
        k (Tensor): Keys, ``(B, heads, T, D)``.
        sizes (Tensor, optional): Patches per key, ``(B, T)``, as in
            :func:`proportional_attention`. Default: None.

    Returns:
        Tensor: ``(B, T)``, sums to one in each image.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q, k))
        bias = 0.0 if sizes is None else sizes.log().to(q.dtype)[:, None, None, :]
        total = q.new_zeros(len(k), k.shape[2])
        for queries in (q * q.shape[-1] ** -0.5).split(_QUERIES_AT_A_TIME, dim=2):
            total += (queries @ k.transpose(-2, -1) + bias).softmax(-1).sum((1, 2))
    return total / (q.shape[1] * q.shape[2])


def _has_kernel(q: Tensor, dropout: float) -> bool:
    can = can_run_triton(q) and not dropout and q.shape[-1] in _HEAD_DIMS
    # In float32 larger heads would take more shared memory than most GPUs have.
    fits = q.dtype == torch.float32 and q.shape[-1] <= 64 and not torch.is_grad_enabled()
    return can and (q.dtype.itemsize == 2 or fits)


@operator(
    'mmdet_atc::proportional_attention',
    '(Tensor q, Tensor k, Tensor v, Tensor sizes) -> (Tensor, Tensor)',
    device='cuda',
)
def _attention(q: Tensor, k: Tensor, v: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    from .triton_proportional import attention

    return attention(q, k, v, sizes)


@operator(
    'mmdet_atc::proportional_attention_backward',
    '(Tensor q, Tensor k, Tensor v, Tensor sizes, Tensor out, Tensor logs, Tensor grad)'
    ' -> (Tensor, Tensor, Tensor)',
    device='cuda',
)
def _attention_backward(q, k, v, sizes, out, logs, grad):
    from .triton_proportional import attention_backward

    return attention_backward(q, k, v, sizes, out, logs, grad)


@_attention.register_fake
def _(q, k, v, sizes):
    batch, heads, num_tokens, head_dim = q.shape
    out = q.new_empty(batch, num_tokens, heads, head_dim)
    return out, q.new_empty(batch, heads, num_tokens, dtype=torch.float32)


@_attention_backward.register_fake
def _(q, k, v, sizes, out, logs, grad):
    return tuple(torch.empty_like(out).transpose(1, 2) for _ in range(3))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.set_materialize_grads(False)  # no gradient of the logarithms is asked for


def _backward(ctx, grad: Tensor, _: None):
    return *_attention_backward(*ctx.saved_tensors, grad), None


_attention.register_autograd(_backward, setup_context=_setup_context)
