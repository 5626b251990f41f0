"""Multi-head self-attention of ViT blocks: global, proportional and windowed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_atc.arguments import check_counts
from mmdet_atc.merging.proportional import proportional_attention, received_attention


class Attention(nn.Module):
    """Global self-attention, optionally proportional to token sizes.

    Args:
        dim (int): Channels of the tokens.
        num_heads (int): Number of heads; must divide ``dim``. Default: 8.
        qkv_bias (bool): Whether the query, key and value projection has a bias. Default: True.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = True) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(
                f'num_heads must divide the embedding dimension {dim}, got {num_heads}'
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, grid: tuple[int, int], sizes: Tensor | None = None, need_keys: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            x (Tensor): Tokens, ``(B, T, C)``.
            grid (tuple[int, int]): Height and width of the patch grid (used by windows only).
            sizes (Tensor, optional): Patches per token, ``(B, T)``; with it attention is
                proportional (ToMe, eq. 1): log(size) is added to each key's logits.
            need_keys (bool): Also return what tokens are clustered by.

        Returns:
            tuple: Output ``(B, T, C)`` and the keys averaged over heads in float32 or better,
            ``(B, T, C / num_heads)``, or None.
        """
        batch, num_tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, num_tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if sizes is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            out = proportional_attention(q, k, v, sizes)
        out = self.proj(out.transpose(1, 2).reshape(batch, num_tokens, dim))
        full = torch.promote_types(k.dtype, torch.float32)
        return out, k.mean(1, dtype=full) if need_keys else None

    @torch.no_grad()
    def received(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Mean attention that each token receives, see :func:`received_attention`.

        Args:
            x (Tensor): Tokens, ``(B, T, C)``.
            sizes (Tensor, optional): Patches per token, ``(B, T)``, as in :meth:`forward`.

        Returns:
            Tensor: ``(B, T)``, sums to one in each image.
        """
        batch, num_tokens, dim = x.shape
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.qkv.bias is None else self.qkv.bias[: 2 * dim]
            qk = F.linear(x.to(self.qkv.weight.dtype), self.qkv.weight[: 2 * dim], bias)
        qk = qk.reshape(batch, num_tokens, 2, self.num_heads, dim // self.num_heads)
        q, k = qk.permute(2, 0, 3, 1, 4).unbind(0)
        return received_attention(q, k, sizes)


class WindowAttention(Attention):
    """Self-attention inside non-overlapping windows of the patch grid (ViT-Adapter, appendix).

    The grid is padded to whole windows with zero queries, keys and values, which take part in the
    softmax, as in the official implementation.

    Args:
        dim (int): Channels of the tokens.
        num_heads (int): Number of heads; must divide ``dim``. Default: 8.
        qkv_bias (bool): Whether the query, key and value projection has a bias. Default: True.
        window_size (int): Side of a window in patches. Default: 14.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim`` or ``window_size`` is not positive.
    """

    def __init__(
        self, dim: int, num_heads: int = 8, qkv_bias: bool = True, window_size: int = 14
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias)
        check_counts(window_size=window_size)
        self.window_size = window_size

    def forward(
        self, x: Tensor, grid: tuple[int, int], sizes: Tensor | None = None, need_keys: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        if sizes is not None or need_keys:
            raise ValueError(
                'windowed attention needs the full patch grid: merge tokens only in global blocks'
            )
        batch, num_tokens, dim = x.shape
        height, width = grid
        side = self.window_size
        rows, cols = -(-height // side), -(-width // side)
        qkv = self.qkv(x).reshape(batch, height, width, 3 * dim)
        qkv = F.pad(qkv, (0, 0, 0, cols * side - width, 0, rows * side - height))
        qkv = qkv.reshape(batch, rows, side, cols, side, 3, self.num_heads, dim // self.num_heads)
        # (3, B, rows, cols, heads, side, side, D): a window is a batch entry of its own.
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
            3, batch * rows * cols, self.num_heads, side * side, dim // self.num_heads
        )
        q, k, v = qkv.unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        out = out.reshape(batch, rows, cols, self.num_heads, side, side, -1)
        out = out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, rows * side, cols * side, dim)
        return self.proj(out[:, :height, :width].reshape(batch, num_tokens, dim)), None

    def received(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        raise ValueError(
            'windowed attention has no attention over all tokens: merge only in global blocks'
        )
