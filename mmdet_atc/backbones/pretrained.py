"""Initialisation of a backbone from a ViT classifier (DeiT and timm files)."""

from __future__ import annotations

import re

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmdet_atc.checkpoints import check_fit, fit_state_dict, flat_state_dict

#: Parts of an adapter that a plain ViT has too.
_VIT_PARTS = ('patch_embed.', 'pos_embed', 'blocks.')
#: Layer scales in timm (``ls1.gamma``) and in facebookresearch (``gamma_1``).
_LAYER_SCALE = re.compile(r'(blocks\.\d+)\.(?:ls|gamma_)(\d)(?:\.gamma)?')


def load_pretrained_vit(backbone: nn.Module, source: str) -> None:
    """Load a ViT classifier into the patch embedding, position embedding and blocks.

    Tensors of the adapter are loaded too where the file has them. Layer scales start at one where
    it has none.

    Args:
        backbone (nn.Module): A :class:`ViTAdapter`.
        source (str): Local file, URL, or any scheme of MMEngine's CheckpointLoader such as
            ``timm://deit_tiny_patch16_224`` or ``hf://ORG/REPO/FILE``.

    Raises:
        CheckpointError: If the file lacks a tensor of the ViT, has one of another shape, or has
            one that the backbone has no use for.
    """
    given = vit_state_dict(CheckpointLoader.load_checkpoint(source, map_location='cpu'))
    model = backbone.state_dict()
    fit_state_dict(given, model)
    wanted = {
        k: v
        for k, v in model.items()
        if k in given or (k.startswith(_VIT_PARTS) and '.gamma' not in k)
    }
    check_fit(given, wanted, source, 'the ViT of this backbone')
    backbone.load_state_dict(given, strict=False)
    print_log(f'Loaded {len(given)} tensors of a pretrained ViT from {source}', logger='current')


def vit_state_dict(checkpoint: dict) -> dict[str, Tensor]:
    """The tensors of a ViT's checkpoint under the names of :class:`ViTAdapter`."""
    state = flat_state_dict(checkpoint, prefixes=('module.', 'backbone.'))
    return {_LAYER_SCALE.sub(r'\1.gamma\2', name): tensor for name, tensor in state.items()}
