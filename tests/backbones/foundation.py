"""Files of plain ViTs as their authors publish them, made small and random."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_atc.backbones import ViTAdapter
from mmdet_atc.backbones.blocks_of_pass import BlocksOfPass

SIZE = dict(embed_dim=48, depth=3, num_heads=3)
ADAPTER = dict(**SIZE, interaction_indexes=[[0, 1], [2, 2]], deform_num_heads=3, conv_inplane=8)


@dataclass(frozen=True)
class Source:
    """A model of timm's, how its file is laid out, and the arguments that a backbone needs."""

    model: str
    layout: Callable[[dict[str, Tensor]], dict[str, Any]] = dict
    backbone: dict[str, Any] = field(default_factory=dict)
    suffix: str = '.pth'
    is_read_by_timm: bool = True

    @property
    def patch_size(self) -> int:
        return int(re.search(r'patch(\d+)', self.model)[1])

    def made(self, side: int) -> nn.Module:
        """timm's model with class token, of ``side`` squared patches, all of it random."""
        torch.manual_seed(3)
        model = timm.create_model(self.model, **SIZE, img_size=side * self.patch_size)
        return randomised(model).eval()

    def reference(self, grid: tuple[int, int]) -> nn.Module:
        """timm's model of our patch size without class token; weights are still to be loaded."""
        size = tuple(16 * length for length in grid)
        kwargs = dict(**SIZE, img_size=size, patch_size=16, class_token=False, global_pool='avg')
        return timm.create_model(self.model, **kwargs).eval()

    def adapter(self, side: int, **kwargs) -> ViTAdapter:
        size = dict(img_size=16 * side, pretrain_size=16 * side)
        return ViTAdapter(**{**ADAPTER, **self.backbone, **size, **kwargs}).eval()


def randomised(model: nn.Module) -> nn.Module:
    """Every tensor matters: layer scales and biases are far from where they start."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and 'token' not in name and name != 'pos_embed':
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.normal_(std=0.3)
                if ('norm' in name and name.endswith('weight')) or 'gamma' in name:
                    parameter.add_(1)
    return model


def resized(patches: Tensor, side: int, grid: tuple[int, int], antialias: bool) -> Tensor:
    """Our rule in torch's words: ``(1, side * side, C)`` to ``(1, rows * cols, C)``."""
    maps = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if (side, side) == grid:
        return patches
    maps = F.interpolate(maps, grid, mode='bicubic', align_corners=False, antialias=antialias)
    return maps.flatten(2).transpose(1, 2)


@torch.no_grad()
def features_of(model: ViTAdapter, image: Tensor) -> Tensor:
    """What the ViT inside makes of an image, ``(B, R + N, C)``, as with gates of zero."""
    grid = image.shape[2] // 16, image.shape[3] // 16
    blocks = BlocksOfPass(model)
    patches = model._patch_tokens(image, grid)
    return blocks.with_registers(blocks(patches, range(len(model.blocks)), grid))


@torch.no_grad()
def features_of_timm(model: nn.Module, image: Tensor) -> Tensor:
    """What timm's blocks make of it, before the last norm."""
    return model.blocks(model.norm_pre(model._pos_embed(model.patch_embed(image))))


def facebook_dinov2(state: dict[str, Tensor]) -> dict[str, Any]:
    return {**state, 'mask_token': torch.zeros(1, state['cls_token'].shape[-1])}


def facebook_dinov2_registers(state: dict[str, Tensor]) -> dict[str, Any]:
    """timm has the class token's place in the class token."""
    state = facebook_dinov2(state)
    state['register_tokens'] = state.pop('reg_token')
    state['pos_embed'] = F.pad(state['pos_embed'], (0, 0, 1, 0))
    return state


def facebook_mae(state: dict[str, Tensor]) -> dict[str, Any]:
    ones = torch.ones(4)
    decoder = {'mask_token': ones, 'decoder_pos_embed': ones, 'decoder_blocks.0.norm1.bias': ones}
    kept = {k: v for k, v in state.items() if not k.startswith('head.')}
    return dict(model={**kept, **decoder})


def facebook_deit3(state: dict[str, Tensor]) -> dict[str, Any]:
    return dict(model={re.sub(r'ls(\d)\.gamma', r'gamma_\1', k): v for k, v in state.items()})


def openai_clip(state: dict[str, Tensor]) -> dict[str, Any]:
    names = {
        'patch_embed.proj.': 'conv1.',
        'norm_pre.': 'ln_pre.',
        'blocks.': 'transformer.resblocks.',
        '.norm': '.ln_',
        '.qkv.': '.in_proj_',
        'attn.proj.': 'attn.out_proj.',
        '.fc1.': '.c_fc.',
        '.fc2.': '.c_proj.',
    }
    tower: dict[str, Tensor] = {
        'ln_post.weight': state['norm.weight'],
        'ln_post.bias': state['norm.bias'],
        'class_embedding': state['cls_token'].flatten(),
        'positional_embedding': state['pos_embed'][0],
        'proj': state['head.weight'].t(),
    }
    for name, tensor in state.items():
        if name.startswith(('patch_embed', 'norm_pre', 'blocks')):
            for old, new in names.items():
                name = name.replace(old, new)
            tower[name] = tensor
    text = {'transformer.resblocks.0.ln_1.bias': torch.ones(5), 'logit_scale': torch.ones(())}
    return {**text, **{f'visual.{name}': tensor for name, tensor in tower.items()}}


def transformers_dinov2(state: dict[str, Tensor]) -> dict[str, Any]:
    names = (
        (r'^(cls_token|mask_token|register_tokens)$', r'embeddings.\1'),
        (r'^pos_embed$', 'embeddings.position_embeddings'),
        (r'^patch_embed\.proj\.', 'embeddings.patch_embeddings.projection.'),
        (r'^norm\.', 'layernorm.'),
        (r'^blocks\.', 'encoder.layer.'),
        (r'attn\.proj\.', 'attention.output.dense.'),
        (r'ls(\d)\.gamma', r'layer_scale\1.lambda1'),
    )
    layout = {}
    for name, tensor in facebook_dinov2_registers(state).items():
        for old, new in names:
            name = re.sub(old, new, name)
        if 'attn.qkv.' in name:
            for part, piece in zip(('query', 'key', 'value'), tensor.chunk(3), strict=True):
                layout[name.replace('attn.qkv', f'attention.attention.{part}')] = piece.clone()
        elif not name.startswith('head'):
            layout[name] = tensor
    return layout


def google_augreg(state: dict[str, Tensor]) -> dict[str, Any]:
    """Arrays of the ``.npz``: input channels first, heads on an axis."""
    heads = SIZE['num_heads']
    arrays = {
        'cls': state['cls_token'],
        'Transformer/posembed_input/pos_embedding': state['pos_embed'],
        'embedding/kernel': state['patch_embed.proj.weight'].permute(2, 3, 1, 0),
        'embedding/bias': state['patch_embed.proj.bias'],
        'Transformer/encoder_norm/scale': state['norm.weight'],
        'Transformer/encoder_norm/bias': state['norm.bias'],
        'head/kernel': state['head.weight'].t(),
        'head/bias': state['head.bias'],
    }
    for index in range(SIZE['depth']):
        block, ours = f'Transformer/encoderblock_{index}', f'blocks.{index}'
        for theirs, norm in (('LayerNorm_0', 'norm1'), ('LayerNorm_2', 'norm2')):
            arrays[f'{block}/{theirs}/scale'] = state[f'{ours}.{norm}.weight']
            arrays[f'{block}/{theirs}/bias'] = state[f'{ours}.{norm}.bias']
        for layer in (0, 1):
            dense = f'{block}/MlpBlock_3/Dense_{layer}'
            arrays[f'{dense}/kernel'] = state[f'{ours}.mlp.fc{layer + 1}.weight'].t()
            arrays[f'{dense}/bias'] = state[f'{ours}.mlp.fc{layer + 1}.bias']
        attention = f'{block}/MultiHeadDotProductAttention_1'
        weights = state[f'{ours}.attn.qkv.weight'].chunk(3)
        biases = state[f'{ours}.attn.qkv.bias'].chunk(3)
        for part, weight, bias in zip(('query', 'key', 'value'), weights, biases, strict=True):
            arrays[f'{attention}/{part}/kernel'] = weight.t().unflatten(1, (heads, -1))
            arrays[f'{attention}/{part}/bias'] = bias.unflatten(0, (heads, -1))
        out = state[f'{ours}.attn.proj.weight'].t()
        arrays[f'{attention}/out/kernel'] = out.unflatten(0, (heads, -1))
        arrays[f'{attention}/out/bias'] = state[f'{ours}.attn.proj.bias']
    return {name: tensor.numpy() for name, tensor in arrays.items()}


_CLIP = dict(pre_norm=True, norm_eps=1e-5)
_SCALED = dict(layer_scale=True)
_REGISTERS = dict(layer_scale=True, num_registers=4)
SOURCES = {
    'DeiT': Source('deit_small_patch16_224'),
    'DINOv2, timm': Source('vit_small_patch14_dinov2', dict, _SCALED, '.safetensors'),
    'DINOv2': Source('vit_small_patch14_dinov2', facebook_dinov2, _SCALED),
    'DINOv2 with registers, timm': Source('vit_small_patch14_reg4_dinov2', dict, _REGISTERS),
    'DINOv2 with registers': Source(
        'vit_small_patch14_reg4_dinov2', facebook_dinov2_registers, _REGISTERS
    ),
    "DINOv2 with registers, transformers'": Source(
        'vit_small_patch14_reg4_dinov2', transformers_dinov2, _REGISTERS, '.safetensors', False
    ),
    'AugReg': Source('vit_small_patch16_224', google_augreg, suffix='.npz'),
    'MAE': Source('vit_base_patch16_224', facebook_mae),
    'DeiT III': Source('deit3_small_patch16_224', facebook_deit3, _SCALED),
    'CLIP of OpenAI': Source(
        'vit_base_patch16_clip_quickgelu_224', openai_clip, dict(_CLIP, activation='quick_gelu')
    ),
    'CLIP of OpenAI, patches of 14': Source(
        'vit_large_patch14_clip_quickgelu_224', openai_clip, dict(_CLIP, activation='quick_gelu')
    ),
    'CLIP of LAION, timm': Source('vit_base_patch16_clip_224', dict, _CLIP, '.safetensors'),
    'SigLIP': Source('vit_base_patch16_siglip_224', dict),
}
