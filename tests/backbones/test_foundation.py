"""The ViT inside of a backbone computes what timm's computes, whoever published the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from mmdet_atc.backbones import ATCViTAdapter, ViTAdapter
from mmdet_atc.backbones.blocks_of_pass import BlocksOfPass
from mmdet_atc.checkpoints import CheckpointError, fit_state_dict, vit_state_dict, why_no_vit
from mmdet_atc.checkpoints.layouts import resized_pos_embed

from ..conftest import SHARED
from .foundation import ADAPTER, SOURCES, Source, features_of, features_of_timm, resized

#: Patches along a side at which the files were pretrained.
SIDE = 5


def write(source: Source, folder: Path) -> str:
    """The source's file, of :data:`SIDE` squared patches."""
    path = folder / f'vit{source.suffix}'
    content = source.layout(dict(source.made(SIDE).state_dict()))
    if source.suffix == '.npz':
        np.savez(path, **content)
    elif source.suffix == '.safetensors':
        save_file({k: v.contiguous() for k, v in content.items()}, str(path))
    else:
        torch.save(content, path)
    return str(path)


def loaded(source: Source, path: str, side: int = SIDE, **kwargs) -> ViTAdapter:
    model = source.adapter(side, **kwargs, init_cfg=dict(type='Pretrained', checkpoint=path))
    model.init_weights()
    return model


def reference(source: Source, path: str, side: int, grid: tuple[int, int]) -> torch.nn.Module:
    """timm's model with the weights as timm reads them; the position embedding is by our rule."""
    model = source.reference(grid)
    if source.suffix == '.npz':
        whole = source.made(SIDE)
        for parameter in whole.parameters():
            torch.nn.init.zeros_(parameter)
        whole.load_pretrained(path)
        state = dict(whole.state_dict())
    elif not source.is_read_by_timm:
        state = dict(source.made(SIDE).state_dict())
    else:
        read = load_file if source.suffix == '.safetensors' else torch.load
        state = dict(read(path))
    whole = checkpoint_filter_fn(dict(state), source.made(SIDE), adapt_layer_scale=True)
    patches = whole.pop('pos_embed')
    patches = patches[:, patches.shape[1] - SIDE**2 :]
    given = checkpoint_filter_fn({k: v for k, v in whole.items()}, model)
    missing, _ = model.load_state_dict(given, strict=False)
    assert not [k for k in missing if k.startswith(('blocks', 'patch_embed', 'reg', 'norm_pre'))]
    patches = resized(patches, SIDE, (side, side), antialias=True)
    model.pos_embed.data.copy_(resized(patches, side, grid, antialias=False))
    return model


@pytest.mark.parametrize('name', SOURCES)
def test_features_are_timms(tmp_path, name):
    source = SOURCES[name]
    path = write(source, tmp_path)
    for side, grid in ((SIDE, (SIDE, SIDE)), (SIDE, (4, 6)), (7, (7, 7)), (7, (6, 8))):
        image = torch.randn(2, 3, 16 * grid[0], 16 * grid[1])
        found = features_of(loaded(source, path, side), image)
        expected = features_of_timm(reference(source, path, side, grid), image)
        assert found.std() > 0.5
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_gates_of_zero_leave_the_vit_as_it_is(tmp_path):
    source = SOURCES['DINOv2 with registers']
    model = loaded(source, write(source, tmp_path))
    image, outputs = torch.randn(1, 3, 64, 96), []
    model.blocks[-1].register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        model(image)
    torch.testing.assert_close(outputs[0], features_of(model, image))


def test_half_precision_files_are_resized_in_single(tmp_path):
    source = SOURCES['DINOv2']
    state = {k: v.half() for k, v in source.made(SIDE).state_dict().items()}
    torch.save(state, tmp_path / 'half.pth')
    torch.save({k: v.float() for k, v in state.items()}, tmp_path / 'single.pth')
    half, single = (loaded(source, str(tmp_path / f'{name}.pth'), 7) for name in ('half', 'single'))
    assert torch.equal(half.patch_embed.proj.weight, single.patch_embed.proj.weight)
    assert torch.equal(half.pos_embed, single.pos_embed)


def test_a_resized_patch_has_the_token_of_the_patch():
    """What the patch embedding's rule promises: bicubic patches of twice the side, same tokens."""
    state = {'patch_embed.proj.weight': torch.randn(48, 3, 8, 8)}
    patch = torch.randn(1, 3, 8, 8)
    larger = torch.nn.functional.interpolate(patch, (16, 16), mode='bicubic', antialias=True)
    wanted = {'patch_embed.proj.weight': torch.zeros(48, 3, 16, 16)}
    token = torch.nn.functional.conv2d(patch, state['patch_embed.proj.weight'])
    kernel = fit_state_dict(state, wanted)['patch_embed.proj.weight']
    torch.testing.assert_close(
        torch.nn.functional.conv2d(larger, kernel), token, rtol=1e-3, atol=1e-3
    )


def test_shrinking_a_grid_warns_and_keeping_or_growing_does_not(recwarn):
    embed = torch.randn(1, 1 + 25, 8)
    for side in (5, 7):
        resized_pos_embed(embed, side**2)
    assert not recwarn
    with pytest.warns(UserWarning, match='5x5 patches is shrunk to 4x4: img_size=80, pretrain_si'):
        resized_pos_embed(embed, 16)


def test_registers_attend_and_are_never_merged():
    torch.manual_seed(0)
    merging = dict(type='AgglomerativeMerging', keep_rate=0.5)
    kwargs = dict(ADAPTER, num_registers=3, merge_blocks=(0, 1))
    model = ATCViTAdapter(**kwargs, merging=merging).eval()
    image, grid, seen = torch.randn(2, 3, 64, 96), (4, 6), []
    torch.nn.init.normal_(model.reg_token)
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    with torch.no_grad():
        features, stages = model.forward_with_clusters(image)
        before = [feature.clone() for feature in features]
        assert seen == [3 + 12, 3 + 6, 3 + 6]
        assert [stage.sizes.sum(dim=1).tolist() for stage in stages] == [[24, 24], [24, 24]]
        model.reg_token.neg_()
        assert not torch.allclose(model(image)[1], before[1], atol=1e-3)

        model.set_merging(None)
        patches = model._patch_tokens(image, grid)
        dense = BlocksOfPass(model)(patches, range(3), grid)
        # One half of the depth after the other is the same: registers are kept between.
        blocks = BlocksOfPass(model)
        torch.testing.assert_close(
            blocks(blocks(patches, range(2), grid), range(2, 3), grid), dense
        )


def test_merging_with_a_register_is_merging_by_the_same_keys():
    """All tokens kept, merging changes nothing, with proportional attention on registers too."""
    torch.manual_seed(0)
    merging = dict(type='AgglomerativeMerging', keep_rate=1.0)
    model = ATCViTAdapter(
        **dict(ADAPTER, num_registers=2, merge_blocks=(0, 1)), merging=merging
    ).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        merged = model(image)
        model.set_merging(None)
        for found, expected in zip(merged, model(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


#: Names of a file's tensors; shapes do not matter.
_BLOCK = {
    'pos_embed': (1, 197, 48),
    'patch_embed.proj.weight': (48, 3, 16, 16),
    **{f'blocks.{i}.attn.qkv.weight': (144, 48) for i in range(3)},
    **{f'blocks.{i}.attn.qkv.bias': (144,) for i in range(3)},
    **{f'blocks.{i}.norm1.{kind}': (48,) for i in range(3) for kind in ('weight', 'bias')},
}


def without(*names: str) -> dict[str, tuple[int, ...]]:
    return {k: v for k, v in _BLOCK.items() if not k.endswith(names)}


#: What is said of files that are no model of timm's; those are below.
REFUSED = {
    'LoRA': (
        {'base_model.model.blocks.0.attn.qkv.lora_A.weight': (8, 48)},
        "LoRA's low-rank updates: merge",
    ),
    'SAM': ({**_BLOCK, 'blocks.0.attn.rel_pos_h': (127, 16)}, 'relative positions'),
    'DINOv3': (
        {**without('pos_embed'), 'rope_embed.periods': (16,), 'storage_tokens': (1, 4, 48)},
        'its positions are rotary',
    ),
    'DINOv2-g': ({**_BLOCK, 'blocks.0.mlp.w12.weight': (96, 48)}, 'gated (SwiGLU'),
    'EVA-02': ({**_BLOCK, 'blocks.0.mlp.fc1_g.weight': (96, 48)}, 'gated (SwiGLU'),
    'RMS norm': (without('norm1.bias'), 'layer norms'),
    'normalised keys': ({**_BLOCK, 'blocks.0.attn.k_norm.weight': (16,)}, 'queries and keys'),
    'sub-norms': ({**_BLOCK, 'blocks.0.mlp.norm.weight': (96,)}, 'norms inside of'),
    'ResNet': (
        {'conv1.weight': (64, 3, 7, 7), 'layer1.0.conv1.weight': (64, 64, 1, 1)},
        'it is a convolutional network (with conv1.weight)',
    ),
    "CLIP, transformers'": (
        {'vision_model.embeddings.patch_embedding.weight': (48, 3, 16, 16)},
        "another library's names",
    ),
    "DINOv3, transformers'": (
        {'embeddings.patch_embeddings.weight': (48, 3, 16, 16), 'layer.0.norm1.weight': (48,)},
        "another library's names",
    ),
    'another width': (
        {**_BLOCK, 'patch_embed.proj.weight': (192, 3, 16, 16)},
        'the file has 192 channels (size T), the config 48 channels',
    ),
    'another depth': (without('2.attn.qkv.weight', '2.attn.qkv.bias'), 'has 2 blocks, the conf'),
    'other MLPs': ({**_BLOCK, 'blocks.0.mlp.fc1.weight': (96, 48)}, 'set backbone.mlp_ratio=2'),
    'registers': ({**_BLOCK, 'register_tokens': (1, 4, 48)}, 'set backbone.num_registers=4'),
    'pre-norm': ({**_BLOCK, 'norm_pre.weight': (48,)}, 'set backbone.pre_norm=True'),
    'layer scales': ({**_BLOCK, 'blocks.0.ls1.gamma': (48,)}, 'set backbone.layer_scale=True'),
    'no biases': (without('qkv.bias'), 'set backbone.qkv_bias=False'),
    'detector': ({'backbone.pos_embed': (1, 197, 48), 'neck.w': (1,)}, 'the file is a detector'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, name):
    shapes, reason = REFUSED[name]
    torch.save({k: torch.zeros(shape) for k, shape in shapes.items()}, tmp_path / 'other.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    with pytest.raises(CheckpointError) as error:
        ViTAdapter(**ADAPTER, init_cfg=init_cfg).init_weights()
    message = str(error.value)
    assert 'other.pth does not fit the ViT of this backbone: ' in message
    assert reason in message
    assert '\n' not in message


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('swin_tiny_patch4_window7_224', 'it is a Swin Transformer'),
        ('beit_base_patch16_224', 'relative positions'),
        ('vit_small_patch16_dinov3', 'no position embedding'),
        ('eva02_tiny_patch14_224', 'only queries and values have a bias'),
        ('vit_giant_patch14_dinov2', 'gated (SwiGLU'),
        ('vit_tiny_r_s16_p8_224', 'hybrid'),
        ('resnet18', 'convolutional network'),
        ('convnext_atto', 'convolutional network'),
        ('efficientnet_b0', 'convolutional network'),
    ],
)
def test_timms_other_models_are_told_apart(name, reason):
    kwargs = dict(embed_dim=96, depth=1, num_heads=1) if 'giant' in name else {}
    state = timm.create_model(name, **kwargs).state_dict()
    wanted = ViTAdapter(**ADAPTER).state_dict()
    assert reason in why_no_vit(vit_state_dict(state), wanted)


def test_a_plain_vit_has_nothing_against_it():
    wanted = ViTAdapter(**ADAPTER).state_dict()
    assert why_no_vit(wanted, wanted) is None


REAL = SHARED / 'weights' / 'vit_s14.safetensors'


@pytest.fixture(scope='module')
def small_dinov2():
    if not REAL.is_file():
        pytest.skip(f'no ViT-S/14 at {REAL}')
    init_cfg = dict(type='Pretrained', checkpoint=str(REAL))
    size = dict(img_size=592, pretrain_size=592, layer_scale=True)
    model = ViTAdapter(embed_dim=384, num_heads=6, **size, init_cfg=init_cfg).eval()
    model.init_weights()
    return model


@pytest.mark.parametrize('grid', [(37, 37), (20, 28)])
def test_a_trained_vit_of_14_pixels_computes_what_timms_does(small_dinov2, grid):
    size = tuple(16 * length for length in grid)
    kwargs = dict(img_size=size, patch_size=16, class_token=False, global_pool='avg')
    expected = timm.create_model('vit_small_patch14_dinov2', num_classes=0, **kwargs).eval()
    state = {k: v.float() for k, v in load_file(str(REAL)).items()}
    del state['cls_token']
    patches = state.pop('pos_embed')[:, 1:]
    expected.load_state_dict(checkpoint_filter_fn(state, expected), strict=False)
    expected.pos_embed.data.copy_(resized(patches, 37, grid, antialias=False))
    image = torch.randn(1, 3, *size)
    torch.testing.assert_close(
        features_of(small_dinov2, image), features_of_timm(expected, image), rtol=0, atol=1e-4
    )
