"""Faults outside the program end the tools with one line that says what and where."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from mmdet_atc.datasets import generate_shapes_dataset

from ..conftest import ROOT
from .micro_runs import CONFIG, MODEL_OPTIONS, SMALL, untrained
from .processes import run, run_together

FAST = [*SMALL, 'train_cfg.max_epochs=1', 'train_dataloader.num_workers=0']
KILL_AT = str(Path(__file__).with_name('kill_at.py'))


@pytest.fixture(scope='module')
def clean(tmp_path_factory):
    return generate_shapes_dataset(tmp_path_factory.mktemp('data') / 'shapes', 9, 4)


@pytest.fixture
def data(clean, tmp_path, monkeypatch):
    """A copy of the data that a test may spoil, and that configs find."""
    monkeypatch.setenv('SHAPES_ROOT', str(tmp_path / 'shapes'))
    monkeypatch.chdir(ROOT)
    return Path(shutil.copytree(clean, tmp_path / 'shapes'))


def train(tool, work_dir, *options, resume=()):
    return tool(
        'tools/train.py', CONFIG, '--work-dir', work_dir, *resume, '--cfg-options', *FAST, *options
    )


def spoil(data: Path, change) -> None:
    path = data / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('content', 'what', 'workers'),
    [
        (None, 'No such file', 0),
        (b'', '000000000003.png', 0),
        (b'no image', 'load', 0),
        (b'no image', 'load', 1),
    ],
)
def test_a_missing_or_damaged_image(data, tool, tmp_path, content, what, workers):
    image = data / 'train2017' / '000000000003.png'
    image.unlink() if content is None else image.write_bytes(content)
    error = train(tool, tmp_path / 'w', f'train_dataloader.num_workers={workers}')
    assert f'image 3 ({image}): ' in error
    assert what in error


def test_a_damaged_annotation_file(data, tool, tmp_path):
    path = data / 'annotations' / 'instances_train2017.json'
    path.write_bytes(path.read_bytes()[:1000])
    assert f'{path} is no COCO annotation file: ' in train(tool, tmp_path / 'w')
    path.unlink()
    assert str(path) in train(tool, tmp_path / 'w')


def test_a_damaged_annotation(data, tool, tmp_path):
    spoil(data, lambda content: content['annotations'][0].update(bbox=[1, 2, 'x', 4]))
    error = train(tool, tmp_path / 'w')
    assert 'instances_train2017.json: image 1: bbox of annotation 1 must be' in error


def test_a_file_name_that_leads_out_of_the_data_root(data, tool, tmp_path):
    (tmp_path / 'secret.png').write_bytes((data / 'train2017' / '000000000001.png').read_bytes())
    spoil(data, lambda content: content['images'][0].update(file_name='../../secret.png'))
    error = train(tool, tmp_path / 'w')
    assert "image 1: file_name '../../secret.png' leads out of the data root" in error


@pytest.mark.parametrize('work_dir', ['/proc/here', '/dev/null/here'])
def test_a_work_dir_that_cannot_be_written(data, tool, work_dir):
    assert work_dir in train(tool, work_dir)


def test_a_full_disk_while_saving(data, tool, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        error = train(tool, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f'cannot write {tmp_path}/epoch_1.pth: ' in error
    assert not list(tmp_path.glob('epoch_*'))


def hostile(path: Path) -> str:
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(path.with_name('owned')),)

    torch.save({'state_dict': Malicious()}, path)
    return 'the checkpoint holds'


def truncated(path: Path) -> str:
    torch.save({'state_dict': {'a': torch.zeros(5000)}}, path)
    path.write_bytes(path.read_bytes()[:3000])
    return 'no complete checkpoint'


@pytest.mark.parametrize('make', [hostile, truncated])
def test_bad_checkpoints_wherever_they_are_given(data, tool, tmp_path, make):
    path = tmp_path / 'epoch_1.pth'
    expected = f'{path}: {make(path)}'
    work_dir = tmp_path / 'w'
    assert expected in train(tool, work_dir, f'load_from={path}')
    assert expected in train(tool, work_dir, resume=('--resume', path))
    assert expected in train(tool, tmp_path, resume=('--resume',))
    assert expected in tool('tools/test.py', CONFIG, path, '--work-dir', work_dir)
    weights = f'model.init_cfg.checkpoint={path}'
    assert expected in train(tool, work_dir, 'model.init_cfg.type=Pretrained', weights)
    vit = f'model.backbone.init_cfg.checkpoint={path}'
    assert expected in train(tool, work_dir, 'model.backbone.init_cfg.type=Pretrained', vit)
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('make', [hostile, truncated])
@pytest.mark.parametrize(
    'args',
    [
        ['demo/image_demo.py', 'IMAGE', '--config', CONFIG, '--device', 'cpu', '--checkpoint'],
        ['tools/analysis_tools/visualize_clusters.py', 'IMAGE', '--config', CONFIG, '--checkpoint'],
        ['tools/analysis_tools/benchmark.py', CONFIG, '--device', 'cpu', '--checkpoints'],
        ['tools/model_converters/convert_layout.py'],
        ['tools/model_converters/publish_model.py'],
    ],
    ids=lambda args: Path(args[0]).stem,
)
def test_bad_checkpoints_in_the_other_tools(data, tool, tmp_path, args, make):
    path = tmp_path / 'file.pth'
    expected = f'{path}: {make(path)}'
    image = str(data / 'val2017' / '000000000001.png')
    target = [tmp_path / 'new.pth'] if 'converters' in args[0] else []
    assert expected in tool(*(image if arg == 'IMAGE' else arg for arg in args), path, *target)
    assert not (tmp_path / 'owned').exists()
    assert not list(tmp_path.glob('new*'))


@pytest.mark.parametrize('merging', [True, False])
def test_nan_weights_in_a_checkpoint(data, tool, tmp_path, merging):
    """Where tokens are merged clustering notices, in the dense model the hook does."""
    options = {} if merging else {'model.backbone.merging': None}
    state = untrained(options={**MODEL_OPTIONS, **options})
    state['backbone.blocks.5.attn.proj.bias'][0] = float('nan')
    torch.save({'state_dict': state}, tmp_path / 'nan.pth')
    error = tool(
        'tools/test.py', CONFIG, tmp_path / 'nan.pth', '--work-dir', tmp_path / 'w',
        '--cfg-options', *FAST, *(f'{name}={value}' for name, value in options.items()),
    )  # fmt: skip
    image = data / 'val2017' / '000000000001.png'
    assert f'NaN or Inf first appears in blocks.5.attn.proj, for image 1 ({image})' in error
    assert 'not finite: blocks.5.attn.proj.bias; the checkpoint is broken' in error


@pytest.mark.slow
def test_a_killed_data_loader_worker_ends_the_run(data, tmp_path):
    options = [*SMALL, 'train_cfg.max_epochs=50', 'train_dataloader.num_workers=1']
    result = run(
        data, KILL_AT, 'worker', 'tools/train.py', CONFIG, '--work-dir', str(tmp_path / 'w'),
        '--cfg-options', *options, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('error: DataLoader worker')
    assert '--resume' in last


@pytest.mark.slow
def test_a_killed_process_of_several_ends_the_others(data, tmp_path):
    """By themselves: torchrun, and srun with --kill-on-bad-exit, would end them too."""
    survivor, killed = run_together(
        data, 2, KILL_AT, 'rank1', 'tools/train.py', CONFIG, '--launcher', 'pytorch',
        '--work-dir', str(tmp_path / 'w'), '--cfg-options', *FAST,
        'train_dataloader.batch_size=2', 'train_cfg.max_epochs=50', check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert survivor.returncode == 1
    last = survivor.stderr.strip().splitlines()[-1]
    assert last.startswith('error: another process of this run has ended')
    assert '--resume' in last


@pytest.mark.slow
def test_a_process_killed_while_evaluating_ends_the_others(data, tmp_path):
    """After the first of its two images."""
    torch.save({'state_dict': untrained()}, tmp_path / 'a.pth')
    first, killed, last = run_together(
        data, 3, KILL_AT, 'rank1', 'tools/test.py', CONFIG, str(tmp_path / 'a.pth'),
        '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'w'), '--cfg-options', *FAST,
        'test_dataloader.batch_size=1', check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    for survivor in (first, last):
        assert survivor.returncode == 1
        message = survivor.stderr.strip().splitlines()[-1]
        assert message.startswith('error: another process of this run has ended')
        assert 'coco/bbox_mAP' not in survivor.stdout + survivor.stderr


@pytest.mark.parametrize('name', ['demo', 'segmentation_demo', 'table3_in_miniature'])
def test_a_script_takes_no_option_for_a_folder(name):
    script = [ROOT / f'tools/{name}.sh', '--help']
    run = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, '')
    assert f'tools/{name}.sh ' in run.stderr
    assert len(run.stderr.splitlines()) == 1
