"""``timm://`` paths against a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import pytest
import timm
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save

from mmdet_atc.backbones import ViTAdapter
from mmdet_atc.checkpoints import CheckpointError, DownloadError, unnamed_traits

NAME = 'test_vit.r160_in1k'
FITTING = dict(
    embed_dim=64, depth=6, num_heads=2, mlp_ratio=3, deform_num_heads=2, conv_inplane=8,
    interaction_indexes=[[0, 2], [3, 5]], img_size=160, pretrain_size=160,
)  # fmt: skip


@pytest.fixture
def published(hub):
    torch.manual_seed(5)
    state = timm.create_model(NAME).state_dict()
    hub.publish(f'timm/{NAME}', 'model.safetensors', save(state))
    return state


def initialised(name: str = NAME, **kwargs) -> ViTAdapter:
    init_cfg = dict(type='Pretrained', checkpoint=f'timm://{name}')
    model = ViTAdapter(**{**FITTING, **kwargs}, init_cfg=init_cfg)
    model.init_weights()
    return model


def test_timms_weights_are_downloaded_once_from_the_hub(published, hub):
    for name in (NAME, 'test_vit'):
        model = initialised(name)
        for key, tensor in model.state_dict().items():
            if key.startswith(('blocks.', 'patch_embed.', 'pos_embed')):
                assert torch.equal(tensor, published[key]), key
    assert len(hub.fetched) == 1


@pytest.mark.parametrize(
    ('kwargs', 'reason'),
    [
        (dict(num_heads=4), 'its num_heads is 2, but 4 here'),
        (dict(activation='quick_gelu'), "its activation is 'GELU', but 'QuickGELU' here"),
        (dict(norm_eps=1e-5), 'its norm_eps is 1e-06, but 1e-05 here'),
    ],
)
def test_what_names_and_shapes_do_not_tell_is_checked(published, kwargs, reason):
    with pytest.raises(CheckpointError) as error:
        initialised(**kwargs)
    assert str(error.value) == (f'timm://{NAME} does not fit the ViT of this backbone: {reason}')


@pytest.mark.parametrize('name', ['vit_base_patch16_rpn_224', 'vit_small_patch16_18x2_224'])
def test_other_blocks_are_told_by_their_class(name):
    size = dict(embed_dim=48, depth=1, num_heads=3, img_size=32)
    traits = unnamed_traits(timm.create_model(name, **size).blocks[0])
    assert traits == dict(block='ResPostBlock' if 'rpn' in name else 'ParallelThingsBlock')


def test_what_the_hub_has_not_is_one_line(hub):
    with pytest.raises(DownloadError, match=rf"cannot load 'timm://{NAME}': .*local file") as error:
        CheckpointLoader.load_checkpoint(f'timm://{NAME}')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['test_vit.no_such_tag', 'vit_tiny_patch16_384.other'])
def test_other_tags_are_listed(name):
    with pytest.raises(CheckpointError, match=rf'timm has no weights .{name}.; those of this'):
        CheckpointLoader.load_checkpoint(f'timm://{name}')
