"""Every config of the contract exists, is thin, builds, and trains one step."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import mmdet_atc  # noqa: F401
from mmdet_atc import mmcv_ext

from ..conftest import ROOT
from .on_meta import on_meta

CONFIGS = ROOT / 'configs'
SIZES = ('t', 's')
LINKAGES = ('single', 'average', 'complete')
#: The paper's, and what each merges by.
ATC = {
    f'atc_vit_adapter_{s}_{k}_r{r}': dict(type='AgglomerativeMerging', linkage=k, keep_rate=r / 100)
    for s in SIZES
    for k in LINKAGES
    for r in (25, 50, 70, 90)
}
TOME = {
    f'tome_vit_adapter_{s}_r{r}': dict(type='BipartiteMerging', keep_rate=r / 100)
    for s in SIZES
    for r in (50, 70, 90)
}
OTHERS = dict(dpcknn='DPCKNNMerging', kmedoids='KMedoidsMerging', topk='TopKMerging')
CENTERED = {
    f'{other}_vit_adapter_{s}_r50': dict(type=merger, keep_rate=0.5)
    for s in SIZES
    for other, merger in OTHERS.items()
}
MERGING = ATC | TOME | CENTERED
DENSE = [f'vit_adapter_{s}_{kind}_3x' for s in SIZES for kind in ('global', 'window')]
SVIT = [f'svit_vit_adapter_{s}' for s in SIZES]
ALIKE = ('cascade_mask_rcnn', 'atss', 'gfl')
QUERIES = ('dino', 'mask2former', 'mask2former_panoptic')
OTHER_HEADS = [f'{head}_vit_adapter_s_{kind}_3x' for head in ALIKE for kind in ('global', 'window')]
OTHER_HEADS += [f'{head}_vit_adapter_s_{12 if head == "dino" else 50}e' for head in QUERIES]
OTHER_HEADS_ATC = [f'{head}_atc_vit_adapter_s_average_r50' for head in (*ALIKE, *QUERIES)]
#: Beyond the paper: sizes and pretraining of ViT-Adapter's authors.
LARGE = ('b', 'l', 's_dinov2', 'b_dinov2', 'l_dinov2')
LARGE_DENSE = [f'vit_adapter_{m}_{kind}_3x' for m in LARGE for kind in ('global', 'window')]
LARGE_ATC = [f'atc_vit_adapter_{m}_average_r50' for m in LARGE]
#: One of each kind for what takes longer.
KINDS = [f'atc_vit_adapter_{s}_{k}_r50' for s in SIZES for k in LINKAGES]
KINDS += [f'tome_vit_adapter_{s}_r50' for s in SIZES] + DENSE
KINDS += [f'{other}_vit_adapter_t_r50' for other in OTHERS]
KINDS_OF_LARGE = ['vit_adapter_b_window_3x', 'atc_vit_adapter_s_dinov2_average_r50']
KINDS_OF_LARGE += ['atc_vit_adapter_b_average_r50', 'atc_vit_adapter_l_dinov2_average_r50']
PARAMETERS = dict(t=28.1e6, s=47.8e6, b=120e6, l=348e6)


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(cfg: Config) -> torch.nn.Module:
    init_default_scope('mmdet')
    return MODELS.build(copy.deepcopy(cfg.model))


def test_the_contract_is_complete():
    names = {path.stem for path in CONFIGS.glob('*.py')}
    assert len([*ATC, *TOME, *DENSE]) == 34
    ours = {*MERGING, *DENSE, *SVIT, *LARGE_DENSE, *LARGE_ATC}
    ours |= {*OTHER_HEADS, *OTHER_HEADS_ATC}
    assert names == {*ours, 'atc_vit_adapter_micro_shapes', 'vit_adapter_dinov2_few_images'}


@pytest.mark.parametrize('name', [*MERGING, *SVIT])
def test_the_papers_fine_tuning(name):
    cfg, size = load(name), name.split('vit_adapter_')[1][0]
    backbone = cfg.model.backbone
    if name in SVIT:
        assert backbone.type == 'SViTAdapter'
    else:
        assert backbone.type == 'ATCViTAdapter'
        assert backbone.merging == MERGING[name]
        assert tuple(backbone.merge_blocks) == (3, 6, 9)
    epochs, drop, drop_path = dict(t=(6, 4, 0.1), s=(4, 3, 0.2))[size]
    assert cfg.train_cfg.max_epochs == epochs
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, warmup.by_epoch) == (0.001, 500, False)
    assert steps.milestones == [drop]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-5, 1e-6)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.load_from.endswith(f'vit_adapter_{size}_global_3x/epoch_36.pth')
    _check_common(cfg)


@pytest.mark.parametrize('name', DENSE)
def test_dense(name):
    cfg = load(name)
    assert cfg.model.backbone.type == 'ViTAdapter'
    assert cfg.train_cfg.max_epochs == 36
    assert cfg.param_scheduler[1].milestones == [27, 33]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert 'deit' in cfg.model.backbone.init_cfg.checkpoint
    windows = [True, True, False] * 4 if 'window' in name else False
    assert cfg.model.backbone.get('window_attn', False) == windows
    _check_common(cfg)


@pytest.mark.parametrize('name', LARGE_DENSE)
def test_larger_dense(name):
    """ViT-Adapter's published hyper-parameters."""
    cfg = load(name)
    backbone, optim_wrapper = cfg.model.backbone, cfg.optim_wrapper
    size = name.split('_')[2]
    is_dinov2, depth = 'dinov2' in name, dict(s=12, b=12, l=24)[size]
    assert backbone.type == 'ViTAdapter'
    assert (backbone.embed_dim, backbone.num_heads, backbone.deform_num_heads) == dict(
        s=(384, 6, 6), b=(768, 12, 12), l=(1024, 16, 16)
    )[size]
    assert backbone.deform_ratio == (1.0 if size == 's' else 0.5)
    assert backbone.drop_path_rate == dict(s=0.2, b=0.3 if is_dinov2 else 0.2, l=0.4)[size]
    side = 592 if is_dinov2 else dict(b=224, l=384)[size]
    assert backbone.img_size == backbone.pretrain_size == side if side != 224 else True
    assert backbone.get('layer_scale', False) == is_dinov2
    assert ('dinov2' if is_dinov2 else dict(b='deit_base', l='L_16')[size]) in (
        backbone.init_cfg.checkpoint
    )
    rate = dict(s=0.7, b=0.7 if is_dinov2 else None, l=0.8)[size]
    assert optim_wrapper.paramwise_cfg.get('layer_decay_rate') == rate
    assert ('constructor' in optim_wrapper) == (rate is not None)
    optimizer = optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    last = depth // 4
    windows = ([True] * (last - 1) + [False]) * 4 if 'window' in name else False
    assert backbone.get('window_attn', False) == windows
    means = [127.5] * 3 if '_l_' in name and not is_dinov2 else [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.mean == means
    assert cfg.train_cfg.max_epochs == 36
    _check_common(cfg)


@pytest.mark.parametrize('name', LARGE_ATC)
def test_larger_atc(name):
    cfg = load(name)
    dense = load(name.replace('atc_', '').replace('average_r50', 'global_3x'))
    backbone = dict(cfg.model.backbone)
    assert backbone.pop('type') == 'ATCViTAdapter'
    assert backbone.pop('merging') == dict(
        type='AgglomerativeMerging', linkage='average', keep_rate=0.5
    )
    # As in the paper, the first block of the second, third and fourth interaction.
    firsts = tuple(first for first, _ in backbone['interaction_indexes'][1:])
    assert tuple(backbone.pop('merge_blocks')) == firsts
    assert backbone.pop('proportional_attn')
    expected = dict(dense.model.backbone)
    assert expected.pop('type') == 'ViTAdapter'
    del expected['init_cfg']
    assert backbone == expected
    assert cfg.model.data_preprocessor == dense.model.data_preprocessor
    assert cfg.load_from == f'work_dirs/{Path(dense.filename).stem}/epoch_36.pth'
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, cfg.train_cfg.max_epochs) == (1e-5, 1e-6, 4)
    _check_common(cfg)


@pytest.mark.parametrize('name', LARGE_DENSE + LARGE_ATC)
def test_larger_ones_build_with_the_published_number_of_parameters(name):
    total = sum(p.numel() for p in on_meta(name).parameters())
    size = name.split('vit_adapter_')[1][0]
    assert total == pytest.approx(PARAMETERS[size], rel=0.02)


def _check_common(cfg: Config) -> None:
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == dict(init_scale=512)
    assert cfg.total_batch_size == 16
    assert cfg.sync_bn == 'torch'
    undecayed = {k for k, v in cfg.optim_wrapper.paramwise_cfg.custom_keys.items()}
    assert undecayed == {'level_embed', 'pos_embed', 'norm', 'bias'}
    assert cfg.custom_imports == dict(imports=['mmdet_atc'], allow_failed_imports=False)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1333, 800)
    assert cfg.model.data_preprocessor.pad_size_divisor == 32


@pytest.mark.parametrize('name', [*MERGING, *DENSE])
def test_it_builds_with_the_papers_number_of_parameters(name):
    cfg = load(name)
    with torch.device('meta'):
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None, '_scope_': 'mmdet'})
    assert backbone.embed_dim == (192 if '_t_' in name else 384)
    if name in KINDS:
        total = sum(p.numel() for p in build(cfg).parameters())
        assert total == pytest.approx(PARAMETERS[name.split('vit_adapter_')[1][0]], rel=0.003)


@pytest.mark.parametrize('name', [*MERGING, *DENSE, *LARGE_DENSE, *LARGE_ATC])
def test_configs_are_thin(name):
    code = [line for line in (CONFIGS / f'{name}.py').read_text().splitlines() if line.strip()]
    assert len(code) <= 18


def sample(height: int, width: int, seed: int) -> DetDataSample:
    """An annotated image with two boxes and their masks."""
    rng = np.random.default_rng(seed)
    data = DetDataSample(
        metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1, 1))
    )
    boxes = torch.tensor([[8.0, 8, 60, 50], [40, 30, width - 4, height - 4]])
    data.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([1, 17]),
        masks=BitmapMasks(rng.integers(0, 2, (2, height, width), dtype=np.uint8), height, width),
    )
    data.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
    return data


NO_BFLOAT16 = pytest.mark.xfail(
    not mmcv_ext.is_supplied(),
    raises=RuntimeError,
    reason="mmcv's compiled NMS and RoIAlign have no bfloat16 on a CPU; torchvision's have",
)


@pytest.mark.parametrize(
    ('name', 'dtype'),
    [(name, None) for name in KINDS + KINDS_OF_LARGE]
    + [pytest.param(name, torch.bfloat16, marks=NO_BFLOAT16) for name in KINDS_OF_LARGE],
)
def test_one_forward_and_loss(name, dtype):
    cfg = load(name)
    cfg.model.backbone.init_cfg = None
    if '_l_' in name:  # its depth is what differs; its width costs half a minute
        cfg.model.backbone.update(embed_dim=256)
        cfg.model.neck.in_channels = [256] * 4
    model = build(cfg).train()
    raw = dict(
        inputs=[
            torch.randint(256, (3, h, w), dtype=torch.uint8) for h, w in ((96, 120), (90, 128))
        ],
        data_samples=[sample(96, 120, 0), sample(90, 128, 1)],
    )
    data = model.data_preprocessor(raw, training=True)
    with torch.autocast('cpu', dtype=dtype, enabled=dtype is not None):
        losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    assert model.backbone.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_coco_root_moves_the_dataset(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/datasets/coco')
    cfg = load(DENSE[0])
    assert cfg.train_dataloader.dataset.data_root == '/datasets/coco'
    assert cfg.val_evaluator.ann_file == '/datasets/coco/annotations/instances_val2017.json'
    monkeypatch.delenv('COCO_ROOT')
    assert load(DENSE[0]).test_dataloader.dataset.data_root == 'data/coco'


def test_a_dense_config_becomes_atc_on_the_command_line():
    cfg = load('vit_adapter_t_global_3x')
    cfg.merge_from_dict(
        {
            'model.backbone.type': 'ATCViTAdapter',
            'model.backbone.merging.linkage': 'complete',
            'model.backbone.merging.keep_rate': 0.7,
        }
    )
    backbone = build(cfg).backbone
    assert backbone.merger.linkage == 'complete'
    assert backbone.keep_rates == {3: 0.7, 6: 0.7, 9: 0.7}


def test_ema_is_one_base_file_away():
    cfg = Config.fromfile(CONFIGS / '_base_/hooks/ema.py')
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook']
    assert not load(DENSE[0]).get('custom_hooks')
