"""Every config of the contract exists, is thin, builds, and trains one step."""

from __future__ import annotations

import copy

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

from ..conftest import ROOT

CONFIGS = ROOT / 'configs'
SIZES = ('t', 's')
LINKAGES = ('single', 'average', 'complete')
ATC = [f'atc_vit_adapter_{s}_{k}_r{r}' for s in SIZES for k in LINKAGES for r in (25, 50, 70, 90)]
TOME = [f'tome_vit_adapter_{s}_r{r}' for s in SIZES for r in (50, 70, 90)]
OTHERS = dict(dpcknn='DPCKNNMerging', kmedoids='KMedoidsMerging', topk='TopKMerging')
CENTERED = [f'{other}_vit_adapter_{s}_r50' for s in SIZES for other in OTHERS]
DENSE = [f'vit_adapter_{s}_{kind}_3x' for s in SIZES for kind in ('global', 'window')]
SVIT = [f'svit_vit_adapter_{s}' for s in SIZES]
ALIKE = ('cascade_mask_rcnn', 'atss', 'gfl')
QUERIES = ('dino', 'mask2former', 'mask2former_panoptic')
OTHER_HEADS = [f'{head}_vit_adapter_s_{kind}_3x' for head in ALIKE for kind in ('global', 'window')]
OTHER_HEADS += [f'{head}_vit_adapter_s_{12 if head == "dino" else 50}e' for head in QUERIES]
OTHER_HEADS_ATC = [f'{head}_atc_vit_adapter_s_average_r50' for head in (*ALIKE, *QUERIES)]
#: One of each kind for what takes longer.
KINDS = [f'atc_vit_adapter_{s}_{k}_r50' for s in SIZES for k in LINKAGES]
KINDS += [f'tome_vit_adapter_{s}_r50' for s in SIZES] + DENSE
KINDS += [f'{other}_vit_adapter_t_r50' for other in OTHERS]
PARAMETERS = dict(t=28.1e6, s=47.8e6)


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(cfg: Config) -> torch.nn.Module:
    init_default_scope('mmdet')
    return MODELS.build(copy.deepcopy(cfg.model))


def test_the_contract_is_complete():
    names = {path.stem for path in CONFIGS.glob('*.py')}
    assert len(ATC + TOME + DENSE) == 34
    mask_rcnn = {*ATC, *TOME, *DENSE, *CENTERED, *SVIT, 'atc_vit_adapter_micro_shapes'}
    assert names == {*mask_rcnn, *OTHER_HEADS, *OTHER_HEADS_ATC}


@pytest.mark.parametrize('name', ATC)
def test_atc(name):
    size, linkage, rate = name.split('_')[3:]
    cfg = load(name)
    assert cfg.model.backbone.merging == dict(
        type='AgglomerativeMerging', linkage=linkage, keep_rate=int(rate[1:]) / 100
    )
    _check_finetuning(cfg, size)


@pytest.mark.parametrize('size', SIZES)
def test_svit(size):
    cfg = load(f'svit_vit_adapter_{size}')
    assert cfg.model.backbone.type == 'SViTAdapter'
    _check_finetuning_schedule(cfg, size)


@pytest.mark.parametrize('name', TOME)
def test_tome(name):
    size, rate = name.split('_')[3:]
    cfg = load(name)
    assert cfg.model.backbone.merging == dict(
        type='BipartiteMerging', keep_rate=int(rate[1:]) / 100
    )
    _check_finetuning(cfg, size)


@pytest.mark.parametrize('name', CENTERED)
def test_other_mergers(name):
    other, size = name.split('_')[0], name.split('_')[3]
    cfg = load(name)
    assert cfg.model.backbone.merging == dict(type=OTHERS[other], keep_rate=0.5)
    _check_finetuning(cfg, size)


def _check_finetuning(cfg: Config, size: str) -> None:
    """The paper's recipe."""
    assert cfg.model.backbone.type == 'ATCViTAdapter'
    assert tuple(cfg.model.backbone.merge_blocks) == (3, 6, 9)
    _check_finetuning_schedule(cfg, size)


def _check_finetuning_schedule(cfg: Config, size: str) -> None:
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


@pytest.mark.parametrize('name', ATC + TOME + DENSE + CENTERED)
def test_it_builds_with_the_papers_number_of_parameters(name):
    cfg = load(name)
    with torch.device('meta'):
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None, '_scope_': 'mmdet'})
    assert backbone.embed_dim == (192 if '_t_' in name else 384)
    if name in KINDS:
        total = sum(p.numel() for p in build(cfg).parameters())
        assert total == pytest.approx(PARAMETERS[name.split('vit_adapter_')[1][0]], rel=0.003)


@pytest.mark.parametrize('name', ATC + TOME + DENSE + CENTERED)
def test_configs_are_thin(name):
    code = [line for line in (CONFIGS / f'{name}.py').read_text().splitlines() if line.strip()]
    assert len(code) <= 15


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


@pytest.mark.parametrize('name', KINDS)
def test_one_forward_and_loss(name):
    model = build(load(name)).train()
    raw = dict(
        inputs=[
            torch.randint(256, (3, h, w), dtype=torch.uint8) for h, w in ((96, 120), (90, 128))
        ],
        data_samples=[sample(96, 120, 0), sample(90, 128, 1)],
    )
    data = model.data_preprocessor(raw, training=True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    assert model.backbone.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_coco_root_moves_the_dataset(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/datasets/coco')
    cfg = load(ATC[0])
    assert cfg.train_dataloader.dataset.data_root == '/datasets/coco'
    assert cfg.val_evaluator.ann_file == '/datasets/coco/annotations/instances_val2017.json'
    monkeypatch.delenv('COCO_ROOT')
    assert load(ATC[0]).test_dataloader.dataset.data_root == 'data/coco'


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
    assert not load(ATC[0]).get('custom_hooks')
