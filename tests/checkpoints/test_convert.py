"""Layouts of MMDetection 2.x and 3.x into each other, and publication."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmdet_atc.checkpoints import load_safely, sha256_of, stripped, to_mmdet2, to_mmengine

from ..backbones.micro import micro
from ..tools.processes import run

CLASSES, PALETTE = ('person', 'cat'), [(1, 2, 3), (4, 5, 6)]


@pytest.fixture
def state():
    return {f'backbone.{name}': tensor for name, tensor in micro().state_dict().items()}


@pytest.fixture
def mmengine(state):
    meta = dict(
        cfg='model = dict()',
        seed=3,
        experiment_name='atc',
        dataset_meta=dict(classes=CLASSES, palette=PALETTE),
        epoch=6,
        iter=100,
    )
    history = HistoryBuffer(log_history=[1.0], count_history=[1])
    ema = {f'module.{name}': tensor + 1 for name, tensor in state.items()}
    return dict(
        meta=meta,
        state_dict=state,
        ema_state_dict=ema,
        message_hub=dict(log_scalars=dict(loss=history)),
        optimizer=dict(state={}, param_groups=[]),
    )


def assert_same_weights(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_mmengine_to_mmdet2_and_back(mmengine, state):
    old = to_mmdet2(mmengine)
    assert set(old) == {'meta', 'state_dict'}
    assert old['meta'] == dict(
        config='model = dict()',
        exp_name='atc',
        seed=3,
        epoch=6,
        iter=100,
        CLASSES=CLASSES,
        PALETTE=PALETTE,
    )
    assert_same_weights(old['state_dict'], state)
    new = to_mmengine(old)
    assert new['meta'] == mmengine['meta']
    assert_same_weights(new['state_dict'], state)


def test_twins_and_leftovers_of_mmcv_are_left_behind(state):
    extra = {
        'backbone.cls_token': torch.zeros(1, 1, 48),
        'backbone.head.weight': torch.zeros(2, 48),
    }
    twins = {'ema_' + name.replace('.', '_'): tensor for name, tensor in {**state, **extra}.items()}
    new = to_mmengine(dict(meta=dict(epoch=1), state_dict={**state, **extra, **twins}))
    assert new['meta'] == dict(epoch=1)
    assert_same_weights(new['state_dict'], state)


def test_the_released_layout_converts_to_what_a_backbone_wants(golden_dir, state):
    released = load_safely(str(golden_dir / 'micro_released_layout.pth'))
    new = to_mmengine(released)
    assert set(new['state_dict']) == set(state)
    assert new['meta']['dataset_meta']['classes'] == released['meta']['CLASSES']


def test_a_published_file_holds_weights_alone(mmengine, state):
    view = torch.zeros(1000, 1000)[:1]
    mmengine['state_dict'] = {**state, 'neck.weight': view}
    found = stripped(mmengine)
    assert set(found) == {'meta', 'state_dict'}
    assert found['meta'] == mmengine['meta']
    assert_same_weights(found['state_dict'], {**state, 'neck.weight': view})
    assert found['state_dict']['neck.weight'].untyped_storage().nbytes() == 4000


def test_the_tools_write_what_loads(mmengine, state, tmp_path, run_tool):
    torch.save(mmengine, tmp_path / 'epoch_6.pth')
    convert = 'tools/model_converters/convert_layout.py'
    old = tmp_path / 'new folder' / 'old.pth'
    whole, bad = str(tmp_path / 'epoch_6.pth'), tmp_path / 'bad.pth'
    run(tmp_path, convert, whole, str(old), '--to', 'mmdet2')
    assert load_safely(str(old))['meta']['CLASSES'] == CLASSES
    assert [path.name for path in old.parent.iterdir()] == ['old.pth']
    result = run(tmp_path, convert, whole, '/dev/null/old.pth', check=False)
    assert result.stderr.strip().splitlines()[-1].startswith('error: [Errno')

    publish = 'tools/model_converters/publish_model.py'
    result = run(tmp_path, publish, whole, str(tmp_path / 'atc_t.pth'))
    (named,) = tmp_path.glob('atc_t*')
    digest = sha256_of(named)
    assert named.name == f'atc_t-{digest[:8]}.pth'
    assert f'sha256 {digest}' in result.stdout
    assert_same_weights(load_safely(str(named))['state_dict'], state)

    run_tool(publish, whole, tmp_path / 'r0.5')
    assert (tmp_path / f'r0.5-{digest[:8]}.pth').is_file()

    bad.write_bytes(b'nothing')
    result = run(tmp_path, publish, str(bad), str(tmp_path / 'x.pth'), check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith('error: ')
