"""Injector, Extractor and their feed-forward network (ViT-Adapter, sections 3.4 and 3.5)."""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from .block import maybe_checkpoint
from .deformable import DeformableTarget, MSDeformAttn
from .depthwise import depthwise_gelu
from .norm import LayerNorm
from .residual import add_residual


class ConvFFN(nn.Module):
    """Feed-forward network with a depth-wise convolution on each level of the pyramid.

    Args:
        dim (int): Channels in and out.
        hidden_dim (int): Channels between.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = PyramidDWConv(hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
        """``(B, S, C)`` to ``(B, S, C)``; ``shapes`` as :meth:`PyramidDWConv.forward`."""
        return self.fc2(self.dwconv(self.fc1(x), shapes))


class PyramidDWConv(nn.Module):
    """One 3×3 depth-wise convolution shared by all levels of a flattened pyramid, then GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
        """``(B, S, C)`` to ``(B, S, C)``; ``shapes`` are the levels' heights and widths."""
        assert self.dwconv.bias is not None
        return depthwise_gelu(x, self.dwconv.weight, self.dwconv.bias, shapes)


class Injector(nn.Module):
    """Brings the spatial prior into the ViT tokens: cross-attention with a learned gate.

    Args:
        dim (int): Channels.
        num_heads (int): Heads of the deformable attention. Default: 6.
        n_points (int): Sampling points. Default: 4.
        n_levels (int): Levels of the pyramid. Default: 3.
        deform_ratio (float): Channels of the values over ``dim``. Default: 1.
        init_values (float): Initial value of the gate. Default: 0.
        with_cp (bool): Whether activations are recomputed in the backward pass. Default: False.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        n_points: int = 4,
        n_levels: int = 3,
        deform_ratio: float = 1.0,
        init_values: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.query_norm = LayerNorm(dim, eps=1e-6)
        self.feat_norm = LayerNorm(dim, eps=1e-6)
        self.attn = MSDeformAttn(dim, n_levels, num_heads, n_points, deform_ratio)
        self.gamma = nn.Parameter(init_values * torch.ones(dim))
        self.with_cp = with_cp

    def forward(self, patches: Tensor, pyramid: Tensor, target: DeformableTarget) -> Tensor:
        """ViT patches ``(B, N, C)`` and pyramid ``(B, S, C)`` to patches ``(B, N, C)``."""

        def run(patches: Tensor, pyramid: Tensor) -> Tensor:
            out = self.attn(self.query_norm(patches), self.feat_norm(pyramid), target)
            return add_residual(patches, out, self.gamma)

        return maybe_checkpoint(run, self.with_cp, patches, pyramid)


class Extractor(nn.Module):
    """Brings the ViT tokens into the pyramid: cross-attention, then a convolutional FFN.

    Args:
        dim (int): Channels.
        num_heads (int): Heads of the deformable attention. Default: 6.
        n_points (int): Sampling points. Default: 4.
        deform_ratio (float): Channels of the values over ``dim``. Default: 1.
        with_cffn (bool): Whether there is an FFN. Default: True.
        cffn_ratio (float): Hidden channels of the FFN over ``dim``. Default: 0.25.
        drop_path (float): Stochastic depth rate of the FFN, in [0, 1). Default: 0.
        with_cp (bool): Whether activations are recomputed in the backward pass. Default: False.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        n_points: int = 4,
        deform_ratio: float = 1.0,
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        drop_path: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.query_norm = LayerNorm(dim, eps=1e-6)
        self.feat_norm = LayerNorm(dim, eps=1e-6)
        self.attn = MSDeformAttn(dim, 1, num_heads, n_points, deform_ratio)
        self.with_cffn = with_cffn
        if with_cffn:
            self.ffn = ConvFFN(dim, int(dim * cffn_ratio))
            self.ffn_norm = LayerNorm(dim, eps=1e-6)
            self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.with_cp = with_cp

    def forward(
        self,
        pyramid: Tensor,
        patches: Tensor,
        target: DeformableTarget,
        shapes: tuple[tuple[int, int], ...],
    ) -> Tensor:
        """Pyramid ``(B, S, C)`` and ViT patches ``(B, N, C)`` to pyramid ``(B, S, C)``.

        ``shapes`` are the heights and widths of the pyramid's levels.
        """

        def run(pyramid: Tensor, patches: Tensor) -> Tensor:
            found = self.attn(self.query_norm(pyramid), self.feat_norm(patches), target)
            if not self.with_cffn:
                return add_residual(pyramid, found)
            out, normed = self.ffn_norm.after_adding(pyramid, found, None, nn.Identity())
            return add_residual(out, self.drop_path(self.ffn(normed, shapes)))

        return maybe_checkpoint(run, self.with_cp, pyramid, patches)


class Interaction(nn.Module):
    """Injector before and Extractors after a group of ViT blocks.

    Args:
        injector (Injector): Runs before the blocks.
        extractor (Extractor): Runs after the blocks.
        extra_extractors (list[Extractor], optional): Run after ``extractor``. Default: None.
    """

    def __init__(
        self,
        injector: Injector,
        extractor: Extractor,
        extra_extractors: list[Extractor] | None = None,
    ) -> None:
        super().__init__()
        self.injector = injector
        self.extractor = extractor
        self.extra_extractors = nn.ModuleList(extra_extractors) if extra_extractors else None

    def extract(
        self,
        pyramid: Tensor,
        patches: Tensor,
        target: DeformableTarget,
        shapes: tuple[tuple[int, int], ...],
    ) -> Tensor:
        """All Extractors in turn; arguments and result as :meth:`Extractor.forward`."""
        for extractor in (self.extractor, *(self.extra_extractors or ())):
            pyramid = extractor(pyramid, patches, target, shapes)
        return pyramid
