"""The Transformer block, in two halves so that tokens can be merged between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers import DropPath, Mlp, get_act_layer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import Attention, WindowAttention
from .norm import LayerNorm
from .residual import add_residual


class Block(nn.Module):
    """Pre-norm ViT block: :meth:`attend`, then :meth:`feed_forward`.

    Args:
        dim (int): Channels of the tokens.
        num_heads (int): Number of attention heads.
        mlp_ratio (float): Hidden channels of the MLP over ``dim``. Default: 4.
        qkv_bias (bool): Whether query, key and value have a bias. Default: True.
        drop_path (float): Stochastic depth rate, in [0, 1). Default: 0.
        layer_scale (bool): Whether each half has a learned channel-wise scale. Default: False.
        window_size (int, optional): Side in patches of the attention windows; None is global
            attention. Default: None.
        with_cp (bool): Whether activations are recomputed in the backward pass. Default: False.
        activation (str): Of the MLP, by timm's name: ``'gelu'``, ``'gelu_tanh'`` or
            ``'quick_gelu'``. Default: ``'gelu'``.
        norm_eps (float): Epsilon of the norms. Default: 1e-6.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        layer_scale: bool = False,
        window_size: int | None = None,
        with_cp: bool = False,
        activation: str = 'gelu',
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=norm_eps)
        self.attn = (
            Attention(dim, num_heads, qkv_bias)
            if window_size is None
            else WindowAttention(dim, num_heads, qkv_bias, window_size)
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=get_act_layer(activation))
        self.gamma1 = nn.Parameter(torch.ones(dim)) if layer_scale else None
        self.gamma2 = nn.Parameter(torch.ones(dim)) if layer_scale else None
        self.with_cp = with_cp

    def attend(
        self, x: Tensor, grid: tuple[int, int], sizes: Tensor | None = None, need_keys: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attention half; arguments and results as :meth:`Attention.forward`, with the residual."""

        def run(x: Tensor) -> tuple[Tensor, Tensor | None]:
            out, keys = self.attn(self.norm1(x), grid, sizes, need_keys)
            return add_residual(x, self.drop_path(out), self.gamma1), keys

        return maybe_checkpoint(run, self.with_cp, x)

    @torch.no_grad()
    def received_attention(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """:meth:`Attention.received` of the attention half, ``(B, T, C)`` to ``(B, T)``."""
        return self.attn.received(self.norm1(x), sizes)

    def feed_forward(self, x: Tensor) -> Tensor:
        """MLP half with the residual, ``(B, T, C)`` to ``(B, T, C)``."""

        def run(x: Tensor) -> Tensor:
            return add_residual(x, self.drop_path(self.mlp(self.norm2(x))), self.gamma2)

        return maybe_checkpoint(run, self.with_cp, x)

    def forward(self, x: Tensor, grid: tuple[int, int], sizes: Tensor | None = None) -> Tensor:
        """The whole block, ``(B, T, C)`` to ``(B, T, C)``."""

        def run(x: Tensor) -> Tensor:
            out, _ = self.attn(self.norm1(x), grid, sizes)
            x, normed = self.norm2.after_adding(x, out, self.gamma1, self.drop_path)
            return add_residual(x, self.drop_path(self.mlp(normed)), self.gamma2)

        return maybe_checkpoint(run, self.with_cp, x)


def maybe_checkpoint(run: Callable, with_cp: bool, *tensors: Tensor):
    """Call ``run``, recomputing its activations in the backward pass if asked and of use."""
    if with_cp and torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return checkpoint(run, *tensors, use_reentrant=False)
    return run(*tensors)
