"""Cluster pictures during validation and test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmdet.models import DetTTAModel
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmdet_atc.backbones import SViTAdapter
from mmdet_atc.engine import Variant
from mmdet_atc.visualization import hook as module
from mmdet_atc.visualization.hook import ClusterVisualizationHook

from ..conftest import ROOT

CONFIG = str(ROOT / 'configs/atc_vit_adapter_micro_shapes.py')


@pytest.fixture(scope='module')
def model():
    return Variant.parse(CONFIG).build(torch.device('cpu'))


@pytest.fixture
def runner(model):
    drawn = []
    loop = SimpleNamespace(fp16=False)
    return SimpleNamespace(
        model=model,
        cfg=Config.fromfile(CONFIG),
        iter=7,
        val_loop=loop,
        test_loop=loop,
        drawn=drawn,
        visualizer=SimpleNamespace(add_image=lambda *args: drawn.append(args)),
    )


def batch(*names):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (len(names), 3, 64, 96), generator=generator).byte()
    samples = [
        DetDataSample(metainfo=dict(img_path=f'/data/{name}.png', img_shape=(64, 96)))
        for name in names
    ]
    return dict(inputs=list(inputs), data_samples=samples)


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_the_first_images_of_each_evaluation_are_drawn(mode, runner):
    hook = ClusterVisualizationHook(draw=True, num_images=3, methods=['tome', 'single'])
    hook.before_run(runner)
    for _ in range(2):
        getattr(hook, f'before_{mode}_epoch')(runner)
        for index, data in enumerate([batch('a', 'b'), batch('c', 'd'), batch('e')]):
            getattr(hook, f'after_{mode}_iter')(runner, index, data, [])
    names = ['clusters_0_a', 'clusters_1_b', 'clusters_2_c']
    assert [name for name, *_ in runner.drawn] == names * 2
    for _, picture, step in runner.drawn:
        assert picture.ndim == 3
        assert picture.dtype.name == 'uint8'
        assert step == 7


def test_the_model_merges_as_before_afterwards(runner):
    own = runner.model.backbone.merger
    hook = ClusterVisualizationHook(draw=True, methods=['tome'])
    hook.before_run(runner)
    hook.after_val_iter(runner, 0, batch('a'), [])
    assert runner.drawn
    assert runner.model.backbone.merger is own


def test_what_svit_selects_is_drawn(runner):
    backbone = SViTAdapter(embed_dim=48, num_heads=3, deform_num_heads=3).eval()
    runner.model = SimpleNamespace(
        backbone=backbone, data_preprocessor=runner.model.data_preprocessor
    )
    hook = ClusterVisualizationHook(draw=True)
    hook.before_run(runner)
    hook.after_val_iter(runner, 0, batch('a'), [])
    [(name, picture, _)] = runner.drawn
    assert name == 'clusters_0_a'
    assert picture.dtype.name == 'uint8'
    with pytest.raises(ValueError, match='an SViTAdapter has no methods, keep_rates'):
        ClusterVisualizationHook(draw=True, methods=['tome']).before_run(runner)


def test_the_last_view_of_test_time_augmentation_is_drawn(runner):
    runner.model = DetTTAModel(module=runner.model)
    runner.cfg.model = dict(type='DetTTAModel', module=runner.cfg.model)
    hook = ClusterVisualizationHook(draw=True)
    hook.before_run(runner)
    views = [batch('mirrored'), batch('a')]
    hook.after_test_iter(runner, 0, {key: [view[key] for view in views] for key in views[0]}, [])
    assert [name for name, *_ in runner.drawn] == ['clusters_0_a']


def test_nothing_is_drawn_unless_asked_for_nor_in_training_nor_twice(runner, monkeypatch):
    hook = ClusterVisualizationHook()
    hook.before_run(runner)
    hook.after_val_iter(runner, 0, batch('a'), [])
    hook = ClusterVisualizationHook(draw=True)
    hook.before_run(runner)
    hook.after_train_iter(runner, 0, batch('a'), {})
    monkeypatch.setattr(module, 'is_main_process', lambda: False)
    hook.after_val_iter(runner, 0, batch('a'), [])
    assert not runner.drawn


def test_what_cannot_be_drawn_is_said_before_the_run(runner):
    with pytest.raises(ValueError, match="draw must be True or False, got 'no'"):
        ClusterVisualizationHook(draw='no')
    with pytest.raises(ValueError, match='num_images must be a positive integer, got 0'):
        ClusterVisualizationHook(num_images=0)
    with pytest.raises(ValueError, match='cell must be an integer of at least 4, got 2'):
        ClusterVisualizationHook(cell=2)
    own = runner.model.backbone.merger
    with pytest.raises(ValueError, match='keep_rate must be'):
        ClusterVisualizationHook(draw=True, keep_rates=[1.5])
    with pytest.raises(ValueError, match='keep_rate must be'):
        ClusterVisualizationHook(draw=True, keep_rates=[[0.5, 0.7]]).before_run(runner)
    assert runner.model.backbone.merger is own
    with pytest.raises(ValueError, match='methods must be of'):
        ClusterVisualizationHook(draw=True, methods=['ward'])
    runner.model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match='the backbone NoneType merges no tokens'):
        ClusterVisualizationHook(draw=True).before_run(runner)
