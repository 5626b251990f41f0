"""Initialisation of a backbone from a ViT classifier (DeiT and timm files)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

#: Parts of an adapter that a plain ViT has too.
_VIT_PARTS = ('patch_embed.', 'pos_embed', 'blocks.')
_WRAPPERS = ('state_dict', 'model')
_PREFIXES = ('module.', 'backbone.')


def load_pretrained_vit(backbone: nn.Module, source: str) -> None:
    """Load patch embedding, position embedding and blocks of a ViT classifier.

    Args:
        backbone (nn.Module): A :class:`ViTAdapter`.
        source (str): Local file, URL, or any scheme of MMEngine's CheckpointLoader such as
            ``timm://deit_tiny_patch16_224``.

    Raises:
        ValueError: If the file lacks a tensor of the ViT or has one of another shape.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    given = vit_state_dict(checkpoint)
    wanted = {k: v for k, v in backbone.state_dict().items() if k.startswith(_VIT_PARTS)}
    if 'pos_embed' in given:
        given['pos_embed'] = resized_pos_embed(given['pos_embed'], wanted['pos_embed'].shape[1] - 1)
    # Layer scales start at one where the classifier has none.
    missing = [k for k in wanted if k not in given and '.gamma' not in k]
    wrong = [
        f'{k}: {tuple(given[k].shape)} instead of {tuple(v.shape)}'
        for k, v in wanted.items()
        if k in given and given[k].shape != v.shape
    ]
    if missing or wrong:
        raise ValueError(
            f'{source} does not fit the ViT of this backbone (another size?): '
            f'{len(missing)} tensors missing {missing[:3]}, '
            f'{len(wrong)} of another shape {wrong[:3]}'
        )
    backbone.load_state_dict({k: given[k] for k in wanted if k in given}, strict=False)
    print_log(f'Loaded {len(wanted)} tensors of a pretrained ViT from {source}', logger='current')


def vit_state_dict(checkpoint: dict) -> dict[str, Tensor]:
    """The tensors of a checkpoint without wrappers (``model``, ``state_dict``) and prefixes."""
    for wrapper in _WRAPPERS:
        if isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
    tensors = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    for prefix in _PREFIXES:
        if tensors and all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def resized_pos_embed(pos_embed: Tensor, num_patches: int) -> Tensor:
    """Position embedding for another square grid.

    Args:
        pos_embed (Tensor): ``(1, extra + n, C)`` with extra tokens (class, distillation) first.
        num_patches (int): Patches of the new grid, a square number.

    Returns:
        Tensor: ``(1, 1 + num_patches, C)``, bicubic where the grid differs.
    """
    side = math.isqrt(pos_embed.shape[1])
    extra = pos_embed.shape[1] - side**2
    new_side = math.isqrt(num_patches)
    if extra == 0:
        # No class token: detection never reads its place, which only keeps the shape.
        pos_embed = F.pad(pos_embed, (0, 0, 1, 0))
        extra = 1
    class_token, patches = pos_embed[:, :1], pos_embed[:, extra:]
    if side != new_side:
        patches = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, (new_side, new_side), mode='bicubic', align_corners=False)
        patches = patches.flatten(2).transpose(1, 2)
    return torch.cat([class_token, patches], dim=1)
