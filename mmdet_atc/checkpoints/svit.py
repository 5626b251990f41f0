"""SViT's blocks are PyTorch's encoder layers: the names of a ViT's blocks in them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_LAYER = 'TransformerEncoderLayer.'
_NAMES = {
    'attn.qkv.weight': 'self_attn.in_proj_weight',
    'attn.qkv.bias': 'self_attn.in_proj_bias',
    'attn.proj.': 'self_attn.out_proj.',
    'mlp.fc1.': 'linear1.',
    'mlp.fc2.': 'linear2.',
    'norm1.': 'norm1.',
    'norm2.': 'norm2.',
}
_BLOCK = re.compile(
    r'^((?:backbone\.)?blocks\.\d+\.)(' + '|'.join(map(re.escape, _NAMES)) + r')(weight|bias)?$'
)


def as_encoder_layers(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Rename a dense ViT's blocks in place, if the model to load them has SViT's.

    Args:
        state (dict[str, Tensor]): Of a checkpoint.
        wanted (Mapping[str, Tensor]): State dict of the model that will load it.
    """
    if not any(_LAYER in name for name in wanted):
        return
    for name in list(state):
        match = _BLOCK.match(name)
        if match:
            block, part, rest = match.groups()
            state[block + _LAYER + _NAMES[part] + (rest or '')] = state.pop(name)
