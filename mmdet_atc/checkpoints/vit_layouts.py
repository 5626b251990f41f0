"""Weights of plain ViTs as their authors and timm publish them, under a backbone's names.

DeiT, DeiT III, MAE, DINOv2 (also with registers) and timm name a ViT's tensors nearly alike.
AugReg's ``.npz`` have JAX's names and layout, CLIP's image tower (OpenAI and open_clip) and Hugging
Face's transformers names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .layouts import flat_state_dict

_Table = tuple[tuple[str, str], ...]
#: Layer scales in timm (``ls1.gamma``) and in facebookresearch (``gamma_1``); DINOv2's registers.
_TIMM: _Table = (
    (r'^(blocks\.\d+)\.(?:ls|gamma_)(\d)(?:\.gamma)?$', r'\1.gamma\2'),
    (r'^register_tokens$', 'reg_token'),
)
_CLIP: _Table = (
    (r'^conv1\.', 'patch_embed.proj.'),
    (r'^class_embedding$', 'cls_token'),
    (r'^positional_embedding$', 'pos_embed'),
    (r'^ln_pre\.', 'norm_pre.'),
    (r'^ln_post\.', 'norm.'),
    (r'^proj$', 'head.weight'),
    (r'^transformer\.resblocks\.', 'blocks.'),
    (r'\.ln_([12])\.', r'.norm\1.'),
    (r'\.in_proj_', '.qkv.'),
    (r'\.out_proj\.', '.proj.'),
    (r'\.c_fc\.', '.fc1.'),
    (r'\.c_proj\.', '.fc2.'),
)
_TRANSFORMERS: _Table = (
    (r'^\w+\.(?=embeddings\.|encoder\.|layernorm\.)', ''),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.', ''),
    (r'^encoder\.layer\.', 'blocks.'),
    (r'\.attention\.attention\.', '.attn.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
    (r'\.layer_scale(\d)\.lambda1$', r'.gamma\1'),
    (r'^layernorm\.', 'norm.'),
)
_JAX: _Table = (
    (r'^embedding/', 'patch_embed.proj/'),
    (r'^cls$', 'cls_token'),
    (r'^(?:Transformer/posembed_input/)?pos_embedding$', 'pos_embed'),
    (r'^Transformer/encoder_norm/', 'norm/'),
    (r'^Transformer/encoderblock_(\d+)/', r'blocks.\1.'),
    (r'MultiHeadDotProductAttention_\d/out/', 'attn.proj/'),
    (r'MultiHeadDotProductAttention_\d/(query|key|value)/', r'attn.\1/'),
    (r'MlpBlock_\d/Dense_0/', 'mlp.fc1/'),
    (r'MlpBlock_\d/Dense_1/', 'mlp.fc2/'),
    (r'LayerNorm_0/', 'norm1/'),
    (r'LayerNorm_[12]/', 'norm2/'),
    (r'/(?:kernel|scale)$', '.weight'),
    (r'/bias$', '.bias'),
)
#: Parts of pretraining that no backbone has: MAE's decoder, DINOv2's masks, pooling.
_OF_PRETRAINING = ('mask_token', 'decoder', 'pre_logits', 'attn_pool.', 'pooler.')
_HEADS = ('head.', 'head_dist.', 'classifier', 'cls_classifier', 'distillation_classifier')


def vit_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a plain ViT's checkpoint under the names of :class:`ViTAdapter`.

    Args:
        checkpoint (Mapping): What a file holds, of any layout named above.

    Returns:
        dict[str, Tensor]: In float32 or better; what only pretraining uses is left out.

    Raises:
        CheckpointError: If there are no tensors.
    """
    if any(str(name).endswith('embedding/kernel') for name in checkpoint):
        state = _from_jax(checkpoint)
    else:
        state = flat_state_dict(checkpoint, prefixes=('module.', 'backbone.'))
        state = _joined(_of_transformers(_image_tower(state)))
    return {
        name: tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        for name, tensor in _renamed(state, _TIMM)
        if not name.startswith((*_OF_PRETRAINING, *_HEADS))
    }


def _renamed(state: Mapping[str, Tensor], table: _Table) -> Iterable[tuple[str, Tensor]]:
    for name, tensor in state.items():
        for pattern, new in table:
            name = re.sub(pattern, new, name)
        yield name, tensor


def _image_tower(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's image tower out of both towers, or all of anything else."""
    towers = ('visual.trunk.', 'visual.')  # timm's ViT inside of open_clip, OpenAI's own
    if tower := next((t for t in towers if any(k.startswith(t) for k in state)), None):
        state = {k.removeprefix(tower): v for k, v in state.items() if k.startswith(tower)}
    if 'class_embedding' not in state:
        return state
    named = dict(_renamed(state, _CLIP))
    named['pos_embed'] = named['pos_embed'].unsqueeze(0)
    return named


def _from_jax(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AugReg's and big_vision's ViT; JAX puts input channels first, and heads on an axis."""
    kernel = next(name for name in checkpoint if name.endswith('embedding/kernel'))
    prefix = kernel.removesuffix('embedding/kernel')
    given = {k.removeprefix(prefix): v for k, v in checkpoint.items() if k.startswith(prefix)}
    state: dict[str, Tensor] = {}
    for name, tensor in _renamed(given, _JAX):
        if name.endswith('.attn.proj.weight'):
            tensor = tensor.flatten(0, 1)
        elif '.attn.' in name:
            tensor = tensor.flatten(1) if name.endswith('.weight') else tensor.flatten()
        if name.endswith('.weight') and tensor.ndim > 1:
            tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.t()
        state[name] = tensor
    return _joined(state)


def _of_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if not any('embeddings.patch_embeddings.projection.' in name for name in state):
        return state
    return dict(_renamed(state, _TRANSFORMERS))


def _joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values in one projection."""
    for name in [name for name in state if '.attn.query.' in name]:
        parts = [name.replace('query', part) for part in ('query', 'key', 'value')]
        if all(part in state for part in parts):
            state[name.replace('query', 'qkv')] = torch.cat([state.pop(part) for part in parts])
    return state
