"""Initialisation of a backbone from a plain ViT: timm's files and the original ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader

from mmdet_atc.checkpoints import (
    CheckpointError,
    check_fit,
    fit_state_dict,
    unnamed_traits,
    vit_state_dict,
    why_no_vit,
)
from mmdet_atc.layers import Block

if TYPE_CHECKING:
    from .vit_adapter import ViTAdapter

#: Parts of an adapter that a plain ViT has too.
_VIT_PARTS = ('patch_embed.', 'pos_embed', 'reg_token', 'norm_pre.', 'blocks.')


def load_pretrained_vit(backbone: ViTAdapter, source: str) -> None:
    """Load a plain ViT into the patch embedding, position embedding, registers and blocks.

    Patches of other sizes and other grids are resized (:func:`fit_state_dict`). Tensors of the
    adapter are loaded too where the file has them. Layer scales start at one where it has none.

    Args:
        backbone (ViTAdapter): Whose ViT.
        source (str): Local file, URL, or any scheme of MMEngine's CheckpointLoader such as
            ``timm://vit_small_patch14_dinov2.lvd142m`` or ``hf://ORG/REPO/FILE``.

    Warns:
        UserWarning: If the position embedding is shrunk.

    Raises:
        CheckpointError: If the file is of another architecture, lacks a tensor of the ViT, has one
            of another shape, or has one that the backbone has no use for.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    given = vit_state_dict(checkpoint)
    model = backbone.state_dict()
    reason = why_no_vit(given, model) or _other_traits(checkpoint, backbone)
    if reason is not None:
        raise CheckpointError(f'{source} does not fit the ViT of this backbone: {reason}')
    fit_state_dict(given, model)
    wanted = {
        k: v
        for k, v in model.items()
        if k in given or (k.startswith(_VIT_PARTS) and '.gamma' not in k)
    }
    check_fit(given, wanted, source, 'the ViT of this backbone')
    backbone.load_state_dict(given, strict=False)
    print_log(f'Loaded {len(given)} tensors of a pretrained ViT from {source}', logger='current')


def _other_traits(checkpoint: dict, backbone: ViTAdapter) -> str | None:
    """What differs that the tensors do not show; None if nothing does (timm's models say)."""
    given, block = checkpoint.get('traits'), backbone.blocks[0]
    if given is None or not isinstance(block, Block):
        return None
    for name, here in unnamed_traits(block).items():
        if given[name] != here:
            return f'its {name} is {given[name]!r}, but {here!r} here'
    return None
