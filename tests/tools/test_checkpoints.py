"""Released-layout checkpoints through ``hf://``, as a user evaluates them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from mmdet_atc.datasets import generate_shapes_dataset

from ..checkpoints.hub_server import HubServer, use_endpoint
from ..conftest import ROOT
from .micro_runs import CONFIG, MODEL_OPTIONS, SMALL, detections, untrained
from .processes import run, run_afresh

MODEL = [option for option in SMALL if option.startswith('model.')]
REPO, FILE = 'someone/atc_micro', 'atc_micro-05-average.pth'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return generate_shapes_dataset(tmp_path_factory.mktemp('data') / 'shapes', 2, 4)


@pytest.fixture(scope='module')
def released() -> bytes:
    """A file as the authors' MMDetection 2.x wrote it, with random weights."""
    state, dim = dict(untrained()), MODEL_OPTIONS['model.backbone.embed_dim']
    state['backbone.cls_token'] = torch.zeros(1, 1, dim)
    state['backbone.norm.weight'], state['backbone.norm.bias'] = torch.ones(dim), torch.zeros(dim)
    state['backbone.head.weight'], state['backbone.head.bias'] = torch.ones(4, dim), torch.zeros(4)
    meta = dict(
        mmdet_version='2.25.0',
        config="model = dict(backbone=dict(type='ToMeATCViTAdapter', window_attn=[False] * 12))",
        CLASSES=('circle', 'rectangle', 'triangle', 'star'),
        epoch=6,
        iter=100,
    )
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state), buffer)
    return buffer.getvalue()


@pytest.fixture(scope='module')
def hub(released):
    server = HubServer()
    server.publish(REPO, FILE, released)
    yield server
    server.close()


@pytest.fixture(scope='module')
def env(hub, tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp('hf_home')
    # Sums differ in the last digit with the number of threads.
    threads = dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')
    return dict(HF_ENDPOINT=hub.endpoint, HF_HOME=str(home), **threads)


def figures(work_dir: Path) -> dict[str, float]:
    values = json.loads(next(work_dir.glob('*/*.json')).read_text())
    return {name: value for name, value in values.items() if name.startswith('coco/')}


@pytest.mark.slow
def test_the_hub_then_its_cache_on_one_and_on_two_processes(hub, data, env, tmp_path):
    path = f'hf://{REPO}/{FILE}@main'
    outputs = [tmp_path / 'alone.pkl', tmp_path / 'together.pkl']
    result = run_afresh(
        data, 'tools/test.py', CONFIG, path, '--work-dir', str(tmp_path / 'hub'),
        '--out', str(outputs[0]), '--cfg-options', *MODEL, **env,
    )  # fmt: skip
    text = result.stdout + result.stderr
    assert text.count('Average Precision  (AP)') == 12
    assert 'do not match exactly' not in text
    assert (Path(env['HF_HOME']) / 'hub' / 'models--someone--atc_micro').is_dir()
    assert len(hub.fetched) == 1

    asked = len(hub.asked)
    run_afresh(
        data, 'tools/dist_test.sh', CONFIG, path, '2', '--work-dir', str(tmp_path / 'two'),
        '--out', str(outputs[1]), '--cfg-options', *MODEL, **env, PORT='29613', HF_HUB_OFFLINE='1',
    )  # fmt: skip
    assert len(hub.asked) == asked
    assert len(figures(tmp_path / 'hub')) == 12
    assert figures(tmp_path / 'hub') == figures(tmp_path / 'two')
    # Random weights: the figures are about zero, the detections are not.
    alone, together = map(detections, outputs)
    assert all(boxes for _, boxes, _ in alone)
    assert alone == together


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['tools/test.py', CONFIG, 'hf://no/such/file.pth'], 'has no repository no/such'),
        (
            ['tools/train.py', CONFIG, '--cfg-options', f'load_from=hf://{REPO}/other.pth', *MODEL],
            "has no file 'other.pth'",
        ),
    ],
)
def test_a_missing_checkpoint_ends_in_one_line(
    data, hub, hub_cache, tool, tmp_path, monkeypatch, args, message
):
    use_endpoint(monkeypatch, hub.endpoint)
    monkeypatch.setenv('SHAPES_ROOT', str(data))
    monkeypatch.chdir(ROOT)
    line = tool(*args, '--work-dir', tmp_path / 'work')
    assert line.startswith('error: cannot load hf://')
    assert message in line


@pytest.mark.slow
def test_a_checkpoint_of_another_size_stops_the_evaluation(data, released, tmp_path):
    (tmp_path / 'file.pth').write_bytes(released)
    result = run(
        data, 'tools/test.py', CONFIG, str(tmp_path / 'file.pth'), '--work-dir', str(tmp_path),
        check=False,
    )  # fmt: skip
    assert result.returncode == 1
    error = result.stderr[result.stderr.index('error: ') :]
    assert 'file.pth does not fit the model:\n  other shape: backbone.blocks, ' in error
    assert 'Hint: the file has 48 channels, the config 96 channels' in error
