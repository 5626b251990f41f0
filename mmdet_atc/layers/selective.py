"""Parts of SViT: a block on the tokens that are selected, and what selects them.

Liu, Gehrig, Messikommer, Cannici, Scaramuzza: Revisiting Token Pruning for Object Detection and
Instance Segmentation (WACV 2024). Names of parameters are those of the released checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from .block import maybe_checkpoint


class SelectiveBlock(nn.Module):
    """PyTorch's pre-norm encoder layer with stochastic depth, on some tokens or on all.

    Args:
        dim (int): Channels of the tokens.
        num_heads (int): Number of attention heads.
        mlp_ratio (float): Hidden channels of the MLP over ``dim``. Default: 4.
        drop_path (float): Stochastic depth rate, in [0, 1). Default: 0.
        with_cp (bool): Whether activations are recomputed in the backward pass. Default: False.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.TransformerEncoderLayer = _EncoderLayer(dim, num_heads, mlp_ratio, drop_path)
        self.with_cp = with_cp

    def forward(self, x: Tensor, selected: Tensor | None = None) -> Tensor:
        """The block; tokens that are not selected are no keys of the attention.

        Args:
            x (Tensor): ``(B, T, C)``.
            selected (Tensor, optional): ``(B, T)`` bool; None is all. Default: None.

        Returns:
            Tensor: ``(B, T, C)``, meaningless at tokens that are not selected.
        """

        def run(x: Tensor) -> Tensor:
            # An image of which nothing is selected attends to all of it rather than to nothing.
            masked = None if selected is None else ~selected & selected.any(1, keepdim=True)
            return self.TransformerEncoderLayer(x, src_key_padding_mask=masked)

        return maybe_checkpoint(run, self.with_cp, x)

    def on_selected(self, x: Tensor, selected: Tensor) -> Tensor:
        """Run the selected tokens alone; the others pass unchanged. For inference.

        Args:
            x (Tensor): ``(B, T, C)``.
            selected (Tensor): ``(B, T)`` bool.

        Returns:
            Tensor: ``(B, T, C)``.
        """
        if not x.shape[0]:
            return x
        counts = selected.sum(dim=1)
        most, least = int(counts.max()), int(counts.min())
        if most == 0:
            return x
        order = selected.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        index = order.unsqueeze(-1).expand(-1, -1, x.shape[-1])
        chosen = x.gather(1, index)
        if least == most:
            return x.scatter(1, index, self(chosen).to(x.dtype))
        real = torch.arange(most, device=x.device) < counts.unsqueeze(1)
        out = torch.where(real.unsqueeze(-1), self(chosen, real).to(x.dtype), chosen)
        return x.scatter(1, index, out)


class _EncoderLayer(nn.TransformerEncoderLayer):
    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__(
            dim,
            num_heads,
            int(dim * mlp_ratio),
            dropout=0.0,
            activation='gelu',
            batch_first=True,
            norm_first=True,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def _sa_block(self, *args, **kwargs) -> Tensor:
        return self.drop_path(super()._sa_block(*args, **kwargs))

    def _ff_block(self, x: Tensor) -> Tensor:
        return self.drop_path(super()._ff_block(x))


class SelectiveModule(nn.Module):
    """Decides for each token whether a block processes it.

    Args:
        dim (int): Channels of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim // 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Which tokens are selected: sampled in training, the likelier choice in inference.

        Args:
            x (Tensor): ``(B, T, C)``.

        Returns:
            Tensor: ``(B, T)``: in training float zeros and ones with the gradient of the softmax
            (straight-through Gumbel-softmax), in inference bool.
        """
        logits = self.mlp(self.norm(x)).float().log_softmax(dim=-1)
        if self.training:
            return F.gumbel_softmax(logits, tau=1.0, hard=True)[..., 0]
        return logits[..., 0] > logits[..., 1]
