"""State dicts of other tools and times, with the names and shapes of a model here.

Read without conversion of names: MMDetection 2.x and 3.x (MMCV 1.x and MMEngine files), which
name the tensors of a Mask R-CNN alike, timm and facebookresearch (DeiT) classifiers.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from .safe import CheckpointError

#: Parts of a classifier that detection never uses; files carry them, models here do not.
CLASSIFIER_KEYS = (
    'cls_token',
    'dist_token',
    'norm.weight',
    'norm.bias',
    'fc_norm.weight',
    'fc_norm.bias',
    'head.weight',
    'head.bias',
    'head_dist.weight',
    'head_dist.bias',
)
_LEFTOVERS = frozenset(prefix + key for prefix in ('', 'backbone.') for key in CLASSIFIER_KEYS)
#: Where tools put the state dict; beside it are the optimizer, an EMA twin and the like.
_WRAPPERS = ('state_dict', 'model', 'module')
#: SViT's blocks are PyTorch's encoder layers: where the parts of a ViT's block are in them.
_ENCODER_LAYER = 'TransformerEncoderLayer.'
_IN_LAYER = {
    'attn.qkv.weight': 'self_attn.in_proj_weight',
    'attn.qkv.bias': 'self_attn.in_proj_bias',
    'attn.proj.': 'self_attn.out_proj.',
    'mlp.fc1.': 'linear1.',
    'mlp.fc2.': 'linear2.',
    'norm1.': 'norm1.',
    'norm2.': 'norm2.',
}
_OF_BLOCK = re.compile(rf'((?:backbone\.)?blocks\.\d+\.)({"|".join(_IN_LAYER)})(weight|bias|)$')


def flat_state_dict(
    checkpoint: Mapping[str, Any], prefixes: Sequence[str] = ('module.',)
) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without wrappers, common prefixes and EMA twins.

    The weights under ``state_dict``, ``model`` or ``module`` are taken, not a twin of them such as
    ``model_ema`` or ``ema_state_dict``, unless ``ema_best`` in the file says so. MMEngine and MMCV
    store the averaged weights under the plain names, so they are what is loaded.

    Args:
        checkpoint (Mapping): What ``torch.load`` returns.
        prefixes (Sequence[str]): Dropped, in this order, where all names have them.

    Returns:
        dict[str, Tensor]: By name, with the module versions that ``load_state_dict`` reads.

    Raises:
        CheckpointError: If there are no tensors.
    """
    inner: Any = checkpoint
    if inner.get('ema_best') and isinstance(inner.get('model_ema'), dict):
        inner = inner['model_ema']  # the authors' classifiers: the twin is the better one
    while wrapper := next((w for w in _WRAPPERS if isinstance(inner.get(w), dict)), None):
        inner = inner[wrapper]
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f'the checkpoint holds no weights, neither under {", ".join(_WRAPPERS)} nor without '
            f'a wrapper; it has {", ".join(map(str, list(checkpoint)[:6])) or "nothing"}'
        )
    for prefix in prefixes:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    # MMCV 1.x registers each weight's twin as a buffer of the detector.
    twins = {'ema_' + name.replace('.', '_') for name in tensors}
    state = OrderedDict((name, value) for name, value in tensors.items() if name not in twins)
    if hasattr(inner, '_metadata'):
        state._metadata = inner._metadata  # type: ignore[attr-defined]
    return state


def fit_state_dict(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the classifier's leftovers and resize the embeddings of other grids, in place.

    A patch embedding of other patches is resized by timm's ``resample_patch_embed`` (FlexiViT's
    pseudo-inverse: a patch that is resized as well gives the same token). Blocks of a dense ViT
    get the names of SViT's where those are wanted.

    Args:
        state (dict[str, Tensor]): Of a checkpoint.
        wanted (Mapping[str, Tensor]): State dict of the model that will load it.

    Returns:
        dict[str, Tensor]: ``state``.
    """
    for name in _LEFTOVERS.intersection(state).difference(wanted):
        del state[name]
    for name in ('pos_embed', 'backbone.pos_embed'):
        if name in state and name in wanted and state[name].shape != wanted[name].shape:
            state[name] = resized_pos_embed(state[name], wanted[name].shape[1] - 1)
    for name in ('patch_embed.proj.weight', 'backbone.patch_embed.proj.weight'):
        if name in state and name in wanted and state[name].ndim == 4:
            state[name] = resample_patch_embed(state[name], list(wanted[name].shape[2:]))
    if any(_ENCODER_LAYER in name for name in wanted):
        for name in list(state):
            if match := _OF_BLOCK.match(name):
                state[match[1] + _ENCODER_LAYER + _IN_LAYER[match[2]] + match[3]] = state.pop(name)
    return state


def resized_pos_embed(pos_embed: Tensor, num_patches: int) -> Tensor:
    """Position embedding for another square grid.

    Args:
        pos_embed (Tensor): ``(1, extra + n, C)`` with at most two extra tokens (class,
            distillation) first; n is a square number.
        num_patches (int): Patches of the new grid, a square number.

    Returns:
        Tensor: ``(1, 1 + num_patches, C)``; where the grid differs, bicubic with antialiasing
        (``align_corners=False``), by timm's ``resample_abs_pos_embed``.

    Warns:
        UserWarning: If the new grid is the smaller one, which loses detail.

    Raises:
        CheckpointError: If the tokens are no square grid.
    """
    side = math.isqrt(pos_embed.shape[1])
    extra = pos_embed.shape[1] - side**2
    if extra > 2:
        raise CheckpointError(
            f'pos_embed must have a square number of patches and at most two extra tokens, got '
            f'{pos_embed.shape[1]} tokens'
        )
    new_side = math.isqrt(num_patches)
    if extra == 0:
        # No class token: detection never reads its place, which only keeps the shape.
        pos_embed = F.pad(pos_embed, (0, 0, 1, 0))
        extra = 1
    if new_side < side:
        warnings.warn(
            f'a position embedding of {side}x{side} patches is shrunk to {new_side}x{new_side}: '
            f'img_size={16 * side}, pretrain_size={16 * side} of the backbone keep it',
            stacklevel=2,
        )
    class_token, patches = pos_embed[:, :1], pos_embed[:, extra:]
    patches = resample_abs_pos_embed(patches, [new_side, new_side], num_prefix_tokens=0)
    return torch.cat([class_token, patches], dim=1)
