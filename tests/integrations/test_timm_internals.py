"""What ``integrations/timm.py`` relies on in timm: if one of these fails, read that file again.

Run it with the oldest and the newest timm that is supported.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch.overrides import TorchFunctionMode

MICRO = dict(img_size=32, patch_size=16, embed_dim=16, depth=1, num_heads=2, num_classes=3)


def called_modules(model, x) -> list[str]:
    calls = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, args, out, name=name: calls.append(name))
    with torch.no_grad():
        model(x)
    return calls


class AttentionCalls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.scaled_dot_product_attention, torch.Tensor.softmax):
            self.calls.append((func.__name__, args[0].shape, sorted(kwargs or {})))
        return func(*args, **(kwargs or {}))


def test_a_block_calls_its_parts_in_this_order():
    calls = called_modules(VisionTransformer(**MICRO).eval(), torch.rand(1, 3, 32, 32))
    parts = [
        'attn.q_norm',
        'attn.k_norm',
        'attn',
        'norm2',
        'mlp',
        'drop_path2',
    ]
    order = [calls.index(f'blocks.0.{part}') for part in parts]
    assert order == sorted(order)
    assert calls.index('blocks.0') < calls.index('norm') < calls.index('fc_norm')
    for part in parts:
        assert calls.count(f'blocks.0.{part}') == 1


def test_a_block_is_two_residual_branches():
    block = VisionTransformer(**MICRO).eval().blocks[0]
    x = torch.rand(2, 5, 16)
    with torch.no_grad():
        middle = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        expected = middle + block.drop_path2(block.ls2(block.mlp(block.norm2(middle))))
        assert torch.equal(block(x), expected)


def test_keys_are_normalised_by_head():
    block = VisionTransformer(**MICRO, qk_norm=True).eval().blocks[0]
    shapes = []
    block.attn.k_norm.register_forward_hook(lambda m, args, out: shapes.append(out.shape))
    with torch.no_grad():
        block(torch.rand(2, 5, 16))
    assert shapes == [(2, 2, 5, 8)]
    assert block.attn.scale == 8**-0.5


def test_attention_calls_one_of_two_functions_of_torch():
    block = VisionTransformer(**MICRO).eval().blocks[0]
    for fused, name, shape in (
        (True, 'scaled_dot_product_attention', (2, 2, 5, 8)),
        (False, 'softmax', (2, 2, 5, 5)),
    ):
        block.attn.fused_attn = fused
        with torch.no_grad(), AttentionCalls() as mode:
            block(torch.rand(2, 5, 16))
        assert [(call[0], call[1]) for call in mode.calls] == [(name, shape)]
        assert set(mode.calls[0][2]) <= {'attn_mask', 'dropout_p', 'is_causal', 'dim'}


def test_forward_takes_forward_features_of_the_model():
    model = VisionTransformer(**MICRO).eval()
    model.forward_features = lambda *_, **__: torch.ones(1, 5, 16)
    with torch.no_grad():
        expected = model.forward_head(torch.ones(1, 5, 16))
        assert torch.equal(model(torch.rand(1, 3, 32, 32)), expected)


def test_the_model_knows_its_tokens():
    model = VisionTransformer(**MICRO, reg_tokens=2)
    assert model.num_prefix_tokens == 3
    assert model.patch_embed.num_patches == 4
    assert model.cls_token is not None
    assert model.reg_token is not None
