"""Segmentation through MMSegmentation: configs, its own tools, sliding windows, released files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmdet_atc.checkpoints import CheckpointError, fitted
from mmdet_atc.datasets import generate_shapes_dataset, write_semantic_maps

from ..conftest import ROOT
from ..tools.processes import run
from .test_heads import smaller
from .test_released_heads import batch_normed_conv, layer

mmseg = pytest.importorskip('mmseg', reason='MMSegmentation is not installed')
pytest.importorskip('mmseg.models')  # a broken one is an error
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

CONFIGS = ROOT / 'configs' / 'segmentation'
#: ViT-Adapter's README, UPerNet on ADE20K, in millions.
PARAMETERS = dict(t=36, s=58, b=134, l=364)
WIDTHS = dict(t=192, s=384, b=768, l=1024)
DENSE = [f'upernet_vit_adapter_{size}_ade20k' for size in WIDTHS]
DENSE += ['upernet_vit_adapter_s_cityscapes']
DENSE += [f'mask2former_vit_adapter_s_{data}' for data in ('ade20k', 'cityscapes')]
ATC = [
    f'{head}_atc_vit_adapter_s_average_r50_{data}'
    for head in ('upernet', 'mask2former')
    for data in ('ade20k', 'cityscapes')
]
MICRO = [f'upernet_{kind}_micro_shapes' for kind in ('vit_adapter', 'atc_vit_adapter')]
TRAIN, TEST = (
    str(Path(mmseg.__path__[0], '.mim/tools', f'{name}.py')) for name in ('train', 'test')
)


def load(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.model.backbone.init_cfg = None
    return cfg


def built(model):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(model)


def on_meta(name):
    with torch.device('meta'):
        return built(load(name).model)


def test_the_list_is_complete():
    assert {path.stem for path in CONFIGS.glob('*.py')} == {*DENSE, *ATC, *MICRO}


@pytest.mark.parametrize('name', DENSE + ATC + MICRO)
def test_a_config_builds_what_it_says(name):
    cfg, model = load(name), on_meta(name)
    assert type(model.backbone).__name__ == ('ATCViTAdapter' if '_atc_' in name else 'ViTAdapter')
    assert model.backbone.vit_features == 'each'
    assert cfg.custom_imports['imports'][0] == 'mmdet_atc'
    size = name.split('_')[-2]
    if name in DENSE and name.startswith('upernet') and name.endswith('ade20k'):
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == PARAMETERS[size]
    if name in ATC:
        start = cfg.load_from.split('/')[1]
        assert start in DENSE
        assert set(model.state_dict()) == set(on_meta(start).state_dict())
        dense = load(start)
        assert cfg.train_cfg.max_iters * 10 == dense.train_cfg.max_iters
        assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
        assert cfg.optim_wrapper.optimizer.lr * 10 == pytest.approx(
            dense.optim_wrapper.optimizer.lr
        )


def tiny(name):
    cfg = load(name)
    smaller(cfg.model, channels=48)
    if name.startswith('upernet'):
        cfg.model.decode_head.channels = 64
        cfg.model.auxiliary_head.update(in_channels=48, channels=64)
    cfg.model.backbone.update(embed_dim=48, num_heads=3, deform_num_heads=3, conv_inplane=8)
    cfg.model.data_preprocessor.size = (96, 128)
    return cfg


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('name', [name for name in DENSE + ATC if '_s_' in name])
def test_forward_and_loss(name, dtype):
    model = built(tiny(name).model).train()
    sample = SegDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128)))
    sample.gt_sem_seg = PixelData(data=torch.randint(19, (1, 96, 128)))
    raw = dict(inputs=[torch.randint(256, (3, 96, 128), dtype=torch.uint8)] * 2)
    data = model.data_preprocessor(dict(raw, data_samples=[sample, sample]), True)
    with torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float32):
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    loss.backward()
    assert model.backbone.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    model.eval()
    data = model.data_preprocessor(dict(raw, data_samples=[sample, sample]), False)
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float32):
        found = model(**data, mode='predict')
    assert found[0].pred_sem_seg.data.shape == (1, 96, 128)


def test_a_sliding_window_is_the_mean_of_its_crops():
    model = built(load(MICRO[1]).model).eval()
    image = torch.randn(1, 3, 160, 224)
    meta = [dict(img_shape=(160, 224), ori_shape=(160, 224))]
    with torch.no_grad():
        found = model.inference(image, meta)
        total, count = torch.zeros(1, 5, 160, 224), torch.zeros(160, 224)
        for y in (0, 32):  # crops of 128 in steps of 96, the last ones at the edge
            for x in (0, 96):
                crop = image[..., y : y + 128, x : x + 128]
                total[..., y : y + 128, x : x + 128] += model.encode_decode(crop, meta)
                count[y : y + 128, x : x + 128] += 1
    assert count.min() == 1
    assert count.max() == 4
    torch.testing.assert_close(found, total / count)


def released(size, width):
    """Names and shapes of ViT-Adapter's UPerNet without its backbone, by MMSegmentation 0.x."""
    head = layer('decode_head.conv_seg', 150, 512, 1, 1)
    for i in range(4):
        head |= batch_normed_conv(f'decode_head.psp_modules.{i}.1', 512, width, 1, 1)
    head |= batch_normed_conv('decode_head.bottleneck', 512, width + 4 * 512, 3, 3)
    for i in range(3):
        head |= batch_normed_conv(f'decode_head.lateral_convs.{i}', 512, width, 1, 1)
        head |= batch_normed_conv(f'decode_head.fpn_convs.{i}', 512, 512, 3, 3)
    head |= batch_normed_conv('decode_head.fpn_bottleneck', 512, 4 * 512, 3, 3)
    head |= batch_normed_conv('auxiliary_head.convs.0', 256, width, 3, 3)
    return head | layer('auxiliary_head.conv_seg', 150, 256, 1, 1)


@pytest.mark.parametrize('size', WIDTHS)
def test_every_tensor_of_a_released_file_is_taken(size):
    model = on_meta(f'upernet_vit_adapter_{size}_ade20k')
    state = {name: value for name, value in model.state_dict().items() if 'backbone' in name}
    for name, shape in released(size, WIDTHS[size]).items():
        state[name] = torch.empty(shape, device='meta')
    # Classifiers' leftovers, which its ViT keeps.
    state['backbone.norm.weight'] = state['backbone.norm.bias'] = torch.empty(WIDTHS[size])
    file = dict(meta=dict(iter=160000), state_dict=state)
    taken = fitted(file, model.state_dict(), 'released.pth')
    assert set(taken) == {name for name in state if 'backbone.norm.' not in name}


def test_a_beit_file_is_refused_with_what_it_has():
    model = on_meta('upernet_vit_adapter_l_ade20k')
    state = dict(model.state_dict())
    del state['backbone.pos_embed']
    for i in range(24):
        table = f'backbone.blocks.{i}.attn.relative_position_bias_table'
        state[table] = torch.empty(2212, 16, device='meta')
    with pytest.raises(CheckpointError, match='relative_position_bias_table'):
        fitted(dict(state_dict=state), model.state_dict(), 'beit.pth')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = generate_shapes_dataset(tmp_path_factory.mktemp('data') / 'shapes', 8, 4)
    write_semantic_maps(root)
    return root


@pytest.mark.slow
def test_mmsegmentations_own_tools_train_test_and_fine_tune(shapes, tmp_path):
    dense, atc = (str(CONFIGS / f'{name}.py') for name in MICRO)
    narrow = [
        *('model.backbone.embed_dim=48', 'model.decode_head.in_channels=[48,48,48,48]'),
        *('model.auxiliary_head.in_channels=48', 'val_dataloader.num_workers=0'),
        'test_dataloader.num_workers=0',
    ]
    few = [
        *narrow,
        *('train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'train_dataloader.num_workers=0'),
        *('default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=4'),
    ]
    run(shapes, TRAIN, dense, '--work-dir', str(tmp_path / 'dense'), '--cfg-options', *few)
    trained = tmp_path / 'dense' / 'iter_4.pth'
    few.append(f'load_from={trained}')
    run(shapes, TRAIN, atc, '--work-dir', str(tmp_path / 'atc'), '--cfg-options', *few)
    options = ['--cfg-options', *narrow]
    run(shapes, TEST, atc, str(trained), '--work-dir', str(tmp_path / 'test'), *options)
    (figures,) = (tmp_path / 'test').glob('*/*.json')
    assert {'mIoU', 'mAcc', 'aAcc'} <= set(json.loads(figures.read_text()))
    wrong = [*options, 'model.decode_head.channels=32']
    refused = run(
        shapes, TEST, atc, str(trained), '--work-dir', str(tmp_path / 'no'), *wrong, check=False
    )
    assert 'does not fit the model' in refused.stderr
