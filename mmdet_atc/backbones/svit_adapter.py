"""ViT-Adapter with selective modules: SViT (Liu et al., WACV 2024), which prunes tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from mmdet_atc.arguments import check_bools, check_finite
from mmdet_atc.layers.selective import SelectiveBlock, SelectiveModule

from .vit_adapter import Features, ViTAdapter

#: Arguments of a ViT that PyTorch's encoder layers have one value of.
_OF_ENCODER_LAYERS = dict(
    layer_scale=False, qkv_bias=True, num_registers=0, activation='gelu', norm_eps=1e-6
)


@MODELS.register_module()
class SViTAdapter(ViTAdapter):
    """ViT-Adapter whose last blocks process the tokens that selective modules choose.

    The others pass such a block unchanged, and the next block chooses anew. In training all tokens
    go through and choices are sampled (straight-through Gumbel-softmax); a loss holds the share of
    chosen tokens near ``keep_ratios``: :attr:`ratio_loss`, which the losses of the detector that
    this backbone is part of get as ``backbone.ratio_loss``, where the detector itself is called: a
    wrapper that calls its method ``loss`` adds it and sets it to None. In inference the likelier
    choice is taken; the released code samples there too.

    Files of a dense ViT-Adapter load as they are; the norms of these blocks have an epsilon of
    1e-5 where the dense model's have 1e-6, as released.

    Args:
        keep_ratios (Sequence[float]): Wanted share of each of the last blocks, in (0, 1]; one per
            selective module. Default: .7, .49 and .343, three times each.
        ratio_loss_weight (float): Factor of the loss. Default: 4.
        ratio_per_image (bool): Whether the share is of each image rather than of the batch.
            Default: False.
        **kwargs: Arguments of :class:`ViTAdapter`, without windows, layer scales, registers,
            and other activations.

    Raises:
        ValueError: If an argument is out of range; the message names it.

    Examples:
        >>> import torch
        >>> from mmdet_atc.backbones import SViTAdapter
        >>> model = SViTAdapter(embed_dim=192, num_heads=3).eval()
        >>> features, selected = model.forward_with_selection(torch.rand(1, 3, 64, 96))
        >>> [tuple(tokens.shape) for tokens in selected][:2]
        [(1, 24), (1, 24)]
    """

    def __init__(
        self,
        keep_ratios: Sequence[float] = (0.7, 0.7, 0.7, 0.49, 0.49, 0.49, 0.343, 0.343, 0.343),
        ratio_loss_weight: float = 4.0,
        ratio_per_image: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_finite(ratio_loss_weight=ratio_loss_weight)
        check_bools(ratio_per_image=ratio_per_image)
        ratios, depth = tuple(keep_ratios), len(self.blocks)
        if not 0 < len(ratios) <= depth or not all(0 < ratio <= 1 for ratio in ratios):
            raise ValueError(
                f'keep_ratios must be at most {depth} numbers in (0, 1], got {keep_ratios!r}'
            )
        for name, default in _OF_ENCODER_LAYERS.items():
            if kwargs.get(name, default) != default:
                raise ValueError(f'{name} must be {default}: blocks are PyTorch encoder layers')
        if any(self.window_sizes):
            raise ValueError('window_attn must be False: selected tokens have no grid')
        self.keep_ratios = ratios
        self.ratio_loss_weight = ratio_loss_weight
        self.ratio_per_image = ratio_per_image
        #: The weighted loss of the last forward pass in training, which the detector takes.
        self.ratio_loss: Tensor | None = None
        last = kwargs.get('drop_path_rate', 0.0)
        self.blocks = nn.ModuleList(
            SelectiveBlock(
                self.embed_dim,
                kwargs.get('num_heads', 12),
                kwargs.get('mlp_ratio', 4.0),
                last * index / max(depth - 1, 1),
                kwargs.get('with_cp', False),
            )
            for index in range(depth)
        )
        self.selective_modules = nn.ModuleList(SelectiveModule(self.embed_dim) for _ in ratios)
        self._reset_parameters()
        self._freeze()

    def set_compile(self, compile: dict | None) -> None:
        """As :meth:`ViTAdapter.set_compile`, but there are no CUDA graphs.

        Raises:
            ValueError: Also if they are asked for.
        """
        super().set_compile(compile)
        if self.captured is not None:
            self.captured = None
            raise ValueError(
                "compile's mode must not be 'reduce-overhead' for SViTAdapter: how many tokens are "
                'selected depends on the image, and CUDA graphs are of fixed sizes'
            )

    def forward(self, image: Tensor) -> Features:
        """Feature maps as :meth:`ViTAdapter.forward`; sets :attr:`ratio_loss` in training."""
        return self.forward_with_selection(image)[0]

    def forward_with_selection(self, image: Tensor) -> tuple[Features, tuple[Tensor, ...]]:
        """:meth:`forward`, and which tokens each selective block processed.

        Args:
            image (Tensor): ``(B, 3, H, W)``, normalised; H and W multiples of 32.

        Returns:
            tuple: The four feature maps, and ``(B, N)`` bool per selective module.
        """
        blocks = _SelectiveBlocks(self)
        features = self._run(image, blocks)
        self.ratio_loss = self.ratio_loss_weight * blocks.ratio_loss() if self.training else None
        return features, tuple(selected.detach().bool() for selected in blocks.selected)


class _SelectiveBlocks:
    """The blocks of one forward pass, full patch grid in and out.

    Attributes:
        selected (list[Tensor]): What each selective module chose so far, ``(B, N)``.
    """

    def __init__(self, backbone: SViTAdapter) -> None:
        self.backbone = backbone
        self.selected: list[Tensor] = []

    def __call__(self, patches: Tensor, indices: range, grid: tuple[int, int]) -> Tensor:
        backbone = self.backbone
        first = len(backbone.blocks) - len(backbone.selective_modules)
        for index in indices:
            block = backbone.blocks[index]
            if index < first:
                patches = block(patches)
                continue
            selected = backbone.selective_modules[index - first](patches)
            self.selected.append(selected)
            if backbone.training:
                share = selected.unsqueeze(-1)
                patches = share * block(patches, selected.bool()) + (1 - share) * patches
            else:
                patches = cast(SelectiveBlock, block).on_selected(patches, selected)
        return patches

    def ratio_loss(self) -> Tensor:
        """Mean over the blocks of the squared difference between the share and the wanted one."""
        dims = 1 if self.backbone.ratio_per_image else (0, 1)
        shares = [selected.mean(dim=dims) for selected in self.selected]
        losses = [
            ((share - ratio) ** 2).mean()
            for share, ratio in zip(shares, self.backbone.keep_ratios, strict=True)
        ]
        return torch.stack(losses).mean()


def _add_ratio_loss(parent: nn.Module, args: tuple, output: Any) -> Any:
    """After a call of a detector: its losses, if it returns losses, with the backbone's."""
    if not isinstance(output, dict):
        return None
    losses = {}
    for name, child in parent.named_children():
        if isinstance(child, SViTAdapter) and child.ratio_loss is not None:
            losses[f'{name}.ratio_loss'] = child.ratio_loss
            child.ratio_loss = None  # part of a graph: the model could not be copied or saved
    return {**output, **losses} if losses else None


def _watch_parent(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    if isinstance(child, SViTAdapter) and _add_ratio_loss not in parent._forward_hooks.values():
        parent.register_forward_hook(_add_ratio_loss)


register_module_module_registration_hook(_watch_parent)
