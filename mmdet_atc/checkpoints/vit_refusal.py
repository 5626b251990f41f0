"""Why a file cannot initialise a plain ViT: one reason, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .mismatch import other_width

State = Mapping[str, Tensor]

_GATED = 'its MLPs are gated (SwiGLU, as in DINOv2-g and EVA-02), which this ViT does not have'
#: What a plain ViT's names never look like, and why; the first that is found is told.
_FOREIGN = (
    (
        r'lora_',
        "it holds LoRA's low-rank updates: merge them into their model first (PEFT's "
        'merge_and_unload) and save that',
    ),
    (r'^layers\.\d+\.blocks\.', 'it is a Swin Transformer, not a plain ViT'),
    (
        r'relative_position|rel_pos',
        'its attention has relative positions (as BEiT and SAM), which this ViT does not have',
    ),
    (
        r'\brope|rotary|\bfreqs',
        'its positions are rotary (as in DINOv3), which this ViT does not have',
    ),
    (r'\.mlp\.(w\d+|fc1_[gx]|gate\w*|weights_in)\.', _GATED),
    (r'\.attn\.[qk]_norm\.', 'it normalises queries and keys, which this ViT does not'),
    (
        r'\.(attn|mlp)\.norm\.',
        'it has norms inside of attention or MLPs, which this ViT does not have',
    ),
    (r'\.attn\.[qv]_bias$', 'only queries and values have a bias (as in BEiT and EVA)'),
    (
        r'^patch_embed\.(?!proj\.)|^conv_root|^block\d+/unit',
        'its patch embedding is more than one convolution (a hybrid with a convolutional network)',
    ),
    (
        r'^(\w+\.)*(encoder\.layers?|embeddings)\.',
        "it has another library's names: take timm's file of the model, or the original one",
    ),
)
#: What a ViT may have or not: a tensor of it, its name, the argument of the backbone.
_OPTIONAL = (
    ('norm_pre.weight', 'a norm before the first block', 'pre_norm'),
    ('blocks.0.gamma1', 'layer scales', 'layer_scale'),
    ('blocks.0.attn.qkv.bias', 'biases of queries, keys and values', 'qkv_bias'),
)
_BLOCK = re.compile(r'^blocks\.(\d+)\.(?:attn|TransformerEncoderLayer)\.')


def why_no_vit(given: State, wanted: State) -> str | None:
    """Why a file's tensors are not those of a backbone's ViT, as far as the reason is known.

    Args:
        given (Mapping[str, Tensor]): From :func:`vit_state_dict`, not fitted yet.
        wanted (Mapping[str, Tensor]): State dict of the backbone.

    Returns:
        str, optional: One line; None where nothing speaks against the file, or no known reason.
    """
    if any(name.startswith('backbone.') for name in given):
        return 'the file is a detector, which is loaded through load_from'
    for pattern, reason in _FOREIGN:
        if any(re.search(pattern, name) for name in given):
            return reason
    blocks = _depth(given)
    if not blocks:
        kernels = [n for n, v in given.items() if v.ndim == 4 and not n.startswith('patch_embed')]
        if kernels:
            return f'it is a convolutional network (with {kernels[0]}), not a plain ViT'
        return None
    if 'blocks.0.norm1.weight' in given and 'blocks.0.norm1.bias' not in given:
        return 'its norms have no bias (as RMS norm), but those of this ViT are layer norms'
    if 'pos_embed' not in given:
        return 'it has no position embedding: its positions are rotary or relative'
    if _has_gate(given):
        return _GATED
    if text := other_width(given, wanted):
        return text
    if blocks != _depth(wanted):
        return f'the file has {blocks} blocks, the config {_depth(wanted)}: set depth'
    for check in (_mlp_ratio, _registers, _parts):
        if text := check(given, wanted):
            return text
    return None


def _depth(state: State) -> int:
    return len({match[1] for match in map(_BLOCK.match, state) if match})


def _has_gate(state: State) -> bool:
    """Whether half of what the MLP's first layer gives is multiplied with the other half."""
    first, second = (state.get(f'blocks.0.mlp.fc{layer}.weight') for layer in (1, 2))
    return first is not None and second is not None and len(first) == 2 * second.shape[1]


def _mlp_ratio(given: State, wanted: State) -> str | None:
    name = 'blocks.0.mlp.fc1.weight'
    if name not in given or name not in wanted or len(given[name]) == len(wanted[name]):
        return None
    ratio = len(given[name]) / given[name].shape[1]
    return f'the file has other MLPs: set backbone.mlp_ratio={ratio:g}'


def _registers(given: State, wanted: State) -> str | None:
    found, here = (s['reg_token'].shape[1] if 'reg_token' in s else 0 for s in (given, wanted))
    if found == here:
        return None
    return f'the file has {found} registers, the config {here}: set backbone.num_registers={found}'


def _parts(given: State, wanted: State) -> str | None:
    if 'blocks.0.norm1.weight' not in wanted:
        return None  # SViT's blocks have other names, and take no such arguments
    for name, what, argument in _OPTIONAL:
        found = name in given
        # Layer scales that a file lacks start at one.
        if found == (name in wanted) or (argument == 'layer_scale' and not found):
            continue
        has = 'has' if found else 'has no'
        return f'the file {has} {what}: set backbone.{argument}={found}'
    return None
