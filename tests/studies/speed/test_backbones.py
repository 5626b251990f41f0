"""The table of backbones, on the CPU and small."""

from __future__ import annotations

import csv
from unittest.mock import Mock

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.engine import load_config
from mmdet_atc.studies.figures import append_figures
from mmdet_atc.studies.speed import backbones
from mmdet_atc.studies.speed.backbones import BACKBONE_CASES, Study, build_backbones, images_of
from mmdet_atc.studies.speed.backbones_report import (
    BackboneFigure,
    csv_figures,
    figures_table,
    stage_table,
)
from mmdet_atc.studies.speed.launches import Launches

CPU = torch.device('cpu')


SMALL = dict(embed_dim=48, num_heads=3)


def test_what_is_measured_is_in_the_tables(tmp_path):
    study = Study(build_backbones('t', None, CPU, **SMALL), images_of(None, 60, 96)[:2], repeats=1)
    study.inference('bf16', 2)
    study.inference('float32', 1, captured=True)
    study.stages('average r=0.5', 'float32', 1)
    study.training('float32', 2)
    speed, stages = figures_table(study.figures), stage_table(study.figures, 1e9)
    rows = [line.split(' | ')[0] for line in speed.splitlines()[2:]]
    assert rows == [
        '| bf16, batch 2: ms an image',
        '| bf16, batch 2: peak MiB',
        '| float32, batch 1, captured: ms an image',
        '| training step, float32, batch 2: ms a step',
        '| training step, float32, batch 2: peak MiB',
    ]
    first = speed.splitlines()[2].strip('| ').split(' | ')
    assert len(first) == 1 + len(BACKBONE_CASES)
    assert all(cell.endswith('x)') for cell in first[2:])
    assert stages.startswith('| average r=0.5 | ms | launches | MiB moved | floor, ms | of it |')
    for stage in ('clustering', 'merge and back-project', 'output maps', 'Extractor', 'all'):
        assert f'| {stage} | ' in stages
    for _ in range(2):
        append_figures(tmp_path / 'figures.csv', 'backbones', csv_figures(study.figures), CPU)
    with (tmp_path / 'figures.csv').open() as file:
        written = list(csv.DictReader(file))
    assert len(written) == 2 * len(study.figures)
    assert written[0]['case'] == 'dense, bf16, batch 2'
    assert float(written[0]['median']) == pytest.approx(study.figures[0].value, rel=1e-3)


def test_stages_add_up_to_the_launches_of_a_call():
    study = Study(build_backbones('t', None, CPU, **SMALL), images_of(None, 64, 64)[:1], repeats=1)
    study.stages('dense', 'float32', 1)
    counts = [f.value for f in study.figures if f.what.endswith(', launches')]
    moved = [f.value for f in study.figures if f.what.endswith(', MiB moved')]
    with torch.inference_mode(), Launches() as launches:
        study.models['dense'](study.images)
    assert sum(counts) == sum(launches.counts.values())
    assert sum(moved) == pytest.approx(sum(launches.bytes.values()) / 2**20)
    assert min(counts) > 0


def test_models_share_weights_and_a_trained_vits(tmp_path):
    vit = ATCViTAdapter(embed_dim=48, num_heads=3, img_size=64, pretrain_size=64, layer_scale=True)
    state = {n: p for n, p in vit.state_dict().items() if n.startswith(('patch', 'pos', 'blocks'))}
    torch.save(state, tmp_path / 'vit.pth')
    models = build_backbones('t', str(tmp_path / 'vit.pth'), CPU, **SMALL)
    assert list(models) == list(BACKBONE_CASES)
    for model in models.values():
        assert torch.equal(model.blocks[3].attn.qkv.weight, vit.blocks[3].attn.qkv.weight)
        assert torch.equal(model.up.weight, models['dense'].up.weight)
        assert not model.training


def test_images_are_normalised_and_padded(tmp_path):
    from torchvision.io import write_jpeg

    with pytest.raises(ValueError, match=r'eight \.jpg files are wanted'):
        images_of(tmp_path, 60, 90)
    for index in range(8):
        picture = torch.full((3, 20, 30), 20 * index, dtype=torch.uint8)
        write_jpeg(picture, str(tmp_path / f'{index}.jpg'))
    images = images_of(tmp_path, 60, 90)
    assert images.shape == (8, 3, 64, 96)
    expected = (20 * 5 - 123.675) / 58.395
    assert images[5, 0, 30, 40].item() == pytest.approx(expected, abs=0.02)
    assert not images[:, :, 60:].any()
    assert not images[..., 90:].any()


def test_settings_of_models_are_as_before(monkeypatch):
    study = Study(build_backbones('t', None, CPU, **SMALL), images_of(None, 64, 64)[:1], repeats=1)
    before = {name: p.clone() for name, p in study.models['dense'].state_dict().items()}
    study.inference('float32', 1, captured=True)
    study.training('float32', 1)
    monkeypatch.setattr(backbones, 'interleaved_times', Mock(side_effect=RuntimeError))
    with pytest.raises(RuntimeError):  # as out of memory
        study.training('float32', 1)
    model = study.models['dense']
    assert model.captured is None
    assert not any(isinstance(m, nn.Module) and m.training for m in model.modules())
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(isinstance(figure, BackboneFigure) for figure in study.figures)


@pytest.mark.parametrize('size', backbones.SIZES)
def test_sizes_are_those_of_the_configs(size):
    with torch.device('meta'):
        cfg = load_config(f'atc_vit_adapter_{size}_average_r50')
        state = MODELS.build({**cfg.model.backbone, 'type': 'mmdet.ATCViTAdapter'}).state_dict()
        model = build_backbones(size, None, torch.device('meta'))['average r=0.5']
    assert {n: p.shape for n, p in model.state_dict().items()} == {
        n: p.shape for n, p in state.items()
    }
    assert model.merge_blocks == tuple(cfg.model.backbone.merge_blocks)
