"""What a runner loads fits its model, or loading stops."""

from __future__ import annotations

from collections import OrderedDict
from unittest.mock import Mock

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.hooks import EMAHook
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.runner import BaseLoop, Runner

from mmdet_atc.checkpoints import CheckpointError
from mmdet_atc.engine import CheckpointFitHook, load_config

from ...backbones.micro import micro


class Detector(BaseModel):
    """A micro backbone and one more layer."""

    def __init__(self, **backbone) -> None:
        super().__init__()
        self.backbone = micro(**backbone)
        self.neck = torch.nn.Linear(2, 2)

    def forward(self, inputs=None, data_samples=None, mode='tensor'):
        return inputs


def runner_for(model, path, work_dir, strict=True, **kwargs) -> Runner:
    return Runner(
        model=model,
        work_dir=str(work_dir),
        default_hooks=dict(checkpoint_fit=dict(type='CheckpointFitHook', strict=strict)),
        load_from=str(path),
        experiment_name=f'fit_{work_dir.name}',
        **kwargs,
    )


@pytest.fixture
def load(tmp_path):
    """Loads a checkpoint as tools/test.py does and returns the model."""

    def load(checkpoint: dict, model: Detector | None = None, strict: bool = True) -> Detector:
        model = model or Detector()
        torch.nn.init.zeros_(model.neck.weight)
        torch.save(checkpoint, tmp_path / 'file.pth')
        runner_for(model, tmp_path / 'file.pth', tmp_path, strict).load_or_resume()
        return model

    return load


@pytest.fixture
def state():
    torch.manual_seed(1)
    state = dict(Detector().state_dict())
    return {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}


@pytest.mark.parametrize('wrapper', ['state_dict', 'model', 'module'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_old_layouts_load_to_the_last_tensor(load, state, wrapper, prefix):
    leftovers = {
        'backbone.cls_token': torch.zeros(1, 1, 48),
        'backbone.norm.weight': torch.zeros(48),
        'backbone.head.weight': torch.zeros(80, 48),
    }
    twins = {'ema_' + k.replace('.', '_'): torch.zeros_like(v) for k, v in state.items()}
    given = {prefix + k: v for k, v in {**state, **leftovers, **twins}.items()}
    model = load({'meta': dict(config='', CLASSES=('a',)), wrapper: given})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_leftovers_are_dropped_without_a_word(load, state, capfd):
    state['backbone.head.bias'] = torch.zeros(80)
    load(dict(state_dict=state))
    out, err = capfd.readouterr()
    assert 'Load checkpoint from' in out + err
    assert 'head' not in out + err


def test_position_embeddings_of_another_grid_are_resized(load, state):
    state['backbone.pos_embed'] = torch.ones(1, 1 + 24 * 24, 48)
    model = load(dict(state_dict=state))
    assert model.backbone.pos_embed.shape == (1, 197, 48)
    torch.testing.assert_close(model.backbone.pos_embed, torch.ones(1, 197, 48))


def test_what_does_not_fit_stops_loading_and_changes_nothing(load, state, tmp_path):
    del state['backbone.level_embed']
    state['neck.weight'] = torch.ones(3, 2)
    model = Detector()
    with pytest.raises(CheckpointError) as caught:
        load(dict(state_dict=state), model)
    message = str(caught.value)
    assert f'{tmp_path}/file.pth does not fit the model:' in message
    assert '  missing: backbone.level_embed, 1 tensors' in message
    assert '  other shape: neck, 1 tensors such as neck.weight, (3, 2) in the file' in message
    assert 'default_hooks.checkpoint_fit.strict=False' in message
    assert not model.neck.weight.any()
    assert not torch.equal(model.backbone.pos_embed, state['backbone.pos_embed'])


def test_not_strict_loads_what_fits_and_warns(load, state, capfd):
    state['neck.weight'] = torch.ones(3, 2)
    model = load(dict(state_dict=state), strict=False)
    assert not model.neck.weight.any()
    assert torch.equal(model.backbone.pos_embed, state['backbone.pos_embed'])
    out, err = capfd.readouterr()
    assert 'WARNING' in out + err
    assert 'file.pth does not fit the model:' in out + err


WINDOWS = [True, True, False] * 4
RECORDED = [
    ('config', f"backbone=dict(type='ViTAdapter', window_attn={WINDOWS}, window_size=14)", True),
    ('cfg', "'type': 'ViTAdapter', 'window_attn': [\n True,\n True,\n False], 'depth': 12", True),
    ('config', "type='ToMeATCViTAdapter', window_attn=[False] * 12", False),
    ('cfg', "backbone=dict(type='ATCViTAdapter')", False),
]


@pytest.mark.parametrize(('key', 'text', 'windowed'), RECORDED)
def test_windowed_and_global_attention_are_told_apart(load, state, key, text, windowed):
    checkpoint = dict(meta={key: text}, state_dict=state)
    windows = Detector(window_attn=WINDOWS)
    fitting, other = (windows, Detector()) if windowed else (Detector(), windows)
    load(checkpoint, fitting)
    blocks = 'windowed in blocks 0, 1, 3, 4, 6, 7, 9, 10'
    there, here = (blocks, 'global') if windowed else ('global', blocks)
    with pytest.raises(CheckpointError, match=f'attention: {there} in the file, {here} here'):
        load(checkpoint, other)


@pytest.mark.parametrize('meta', [None, {}, dict(config=''), dict(config="type='ResNet'")])
def test_files_that_do_not_tell_their_attention_load(load, state, meta):
    load(dict(meta=meta, state_dict=state), Detector(window_attn=WINDOWS))


def test_the_hook_is_before_the_moving_average_reads_the_file(state, tmp_path):
    torch.save(dict(model=state), tmp_path / 'file.pth')
    runner = runner_for(
        Detector(), tmp_path / 'file.pth', tmp_path, custom_hooks=[dict(type='EMAHook')]
    )
    (ema,) = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    ema.before_run(runner)
    runner.load_or_resume()
    assert torch.equal(ema.ema_model.module.neck.weight, state['neck.weight'])


@pytest.mark.parametrize('name', ['strict', 'new_classes'])
def test_a_switch_that_is_no_bool_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got 'no'"):
        CheckpointFitHook(**{name: 'no'})


def before_and_after(name: str, resume: bool = False, **switches) -> dict:
    """State that is loaded into a layer with outputs for 5 classes from one for 4."""
    modules = OrderedDict({name: torch.nn.Linear(2, 5), 'neck': torch.nn.Linear(2, 2)})
    model = torch.nn.Sequential(OrderedDict(head=torch.nn.ModuleDict(modules)))
    state = {k: v[:4] if name in k else v for k, v in model.state_dict().items()}
    runner = Mock(model=model, _train_loop=Mock(spec=BaseLoop), _resume=resume, _load_from='a.pth')
    checkpoint = dict(state_dict=state)
    CheckpointFitHook(**switches).after_load_checkpoint(runner, checkpoint)
    return checkpoint['state_dict']


@pytest.mark.parametrize(
    'name',
    ['fc_cls', 'fc_reg', 'conv_logits', 'retina_cls', 'atss_cls', 'cls_branches', 'cls_embed',
     'gfl_cls', 'conv_cls', 'label_embedding'],
)  # fmt: skip
def test_layers_that_know_the_classes_begin_anew(name):
    assert set(before_and_after(name, new_classes=True)) == {'head.neck.weight', 'head.neck.bias'}
    with pytest.raises(CheckpointError, match=r'To train on other classes: .*new_classes=True'):
        before_and_after(name)


def test_new_classes_are_for_a_start_and_not_for_resuming():
    """The optimizer's state would not fit the new layer."""
    with pytest.raises(CheckpointError, match=r'a\.pth does not fit the model'):
        before_and_after('fc_cls', resume=True, new_classes=True)


@pytest.mark.parametrize('name', ['proj', 'retina_reg', 'class_free'])
def test_other_layers_must_fit_with_new_classes_too(name):
    with pytest.raises(CheckpointError, match=r'a\.pth does not fit') as error:
        before_and_after(name, new_classes=True)
    assert 'To train on other classes' not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'anew'),
    [
        ('retinanet/retinanet_r50_fpn_1x_coco', {'bbox_head.retina_cls'}),
        ('atss/atss_r50_fpn_1x_coco', {'bbox_head.atss_cls'}),
        ('detr/detr_r50_8xb2-150e_coco', {'bbox_head.fc_cls'}),
        ('deformable_detr/deformable-detr_r50_16xb2-50e_coco', {'bbox_head.cls_branches'}),
        ('mask2former/mask2former_r50_8xb2-lsj-50e_coco', {'panoptic_head.cls_embed'}),
    ],
)
def test_detectors_of_coco_start_with_two_classes(tmp_path, config, anew):
    data = dict(dataset=dict(metainfo=dict(classes=('apple', 'pear'))))
    text = f"_base_ = 'mmdet::{config}.py'\n"
    for split in ('train', 'val', 'test'):
        text += f'{split}_dataloader = {data}\n'
        text += '' if split == 'train' else f"{split}_evaluator = dict(ann_file='any.json')\n"
    (tmp_path / 'own.py').write_text(text)
    evaluators = {f'{split}_evaluator.ann_file': 'any.json' for split in ('val', 'test')}
    register_all_modules()
    model, of_coco = (
        MODELS.build({**cfg.model, 'backbone': {**cfg.model.backbone, 'init_cfg': None}})
        for cfg in (
            load_config(str(tmp_path / 'own.py'), evaluators),
            get_config(f'mmdet::{config}.py'),
        )
    )
    checkpoint = dict(state_dict=of_coco.state_dict())
    runner = Mock(model=model, _train_loop=Mock(spec=BaseLoop), _resume=False, _load_from='a.pth')
    CheckpointFitHook(new_classes=True).after_load_checkpoint(runner, checkpoint)
    left_out = set(model.state_dict()) - set(checkpoint['state_dict'])
    assert {'.'.join(name.split('.')[:2]) for name in left_out} == anew
