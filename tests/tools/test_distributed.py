"""Several processes train and evaluate as one does; launchers' scripts start them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch

from .micro_runs import CONFIG, SMALL, detections, figures, losses
from .processes import Started, run, run_afresh, run_together

#: Nothing is drawn at random, so that two processes see what one sees in turn.
PLAIN = [
    *SMALL,
    'model.backbone.drop_path_rate=0',
    'train_dataloader.dataset.pipeline.3.prob=0.0',
    'train_dataloader.dataset.indices=8',
    'model.train_cfg.rpn.sampler.num=100000',
    'model.train_cfg.rcnn.sampler.num=100000',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'train_dataloader.batch_size=1',
    'total_batch_size=2',
    'param_scheduler=None',
    # So large that steps are proportional to gradients, not to their signs.
    'optim_wrapper.optimizer.eps=1.0',
    'optim_wrapper.optimizer.lr=0.1',
    'log_processor.window_size=1',
]


#: Of one image each: one process accumulates four gradients, two processes two each.
BATCHES_OF_4 = [*PLAIN, 'total_batch_size=4']


@pytest.fixture(scope='module')
def one(data, tmp_path_factory):
    """Work dir of a training run in one process."""
    work_dir = tmp_path_factory.mktemp('one')
    run(data, 'tools/train.py', CONFIG, '--work-dir', str(work_dir), '--cfg-options', *BATCHES_OF_4)
    return work_dir


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_several_processes_train_and_evaluate_as_one(data, one, tmp_path, count):
    several = tmp_path / 'several'
    options = ['--work-dir', str(several), '--cfg-options', *BATCHES_OF_4]
    if count == 2:
        run_afresh(
            data, 'tools/dist_train.sh', CONFIG, '2', *options, PORT='29612', OMP_NUM_THREADS='1'
        )
    else:  # what torchrun starts imports all anew
        run_together(data, count, 'tools/train.py', CONFIG, '--launcher', 'pytorch', *options)
    alone, together = losses(one), losses(several)
    # The first process has every second or fourth image; all have each batch of four.
    assert len(alone) == 8
    assert list(together.values()) == pytest.approx(list(alone.values())[::count], rel=1e-4)
    states = [torch.load(path / 'epoch_1.pth')['state_dict'] for path in (one, several)]
    for name, weight in states[0].items():
        if 'running_' not in name and 'num_batches' not in name:
            torch.testing.assert_close(states[1][name], weight, rtol=1e-3, atol=1e-5, msg=name)

    # Evaluated in training by several processes, each with batch norm of its own until then.
    checkpoint = str(several / 'epoch_1.pth')
    test = ['tools/test.py', CONFIG, checkpoint, '--work-dir', str(tmp_path / 'test')]
    run(data, *test, '--cfg-options', *PLAIN)
    tested = json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text())
    during = figures(several)
    assert during == {name: tested[name] for name in during}


@pytest.mark.slow
def test_evaluation_on_four_processes_finds_what_one_finds(data, trained, tmp_path):
    """The 6 images, one of them without objects, are no multiple of 4."""
    files = [tmp_path / 'one.pkl', tmp_path / 'four.pkl']
    test = ['tools/test.py', CONFIG, str(trained / 'epoch_2.pth')]
    options = ['--cfg-options', *SMALL]
    run(data, *test, '--work-dir', str(tmp_path / '1'), '--out', str(files[0]), *options)
    run_together(
        data, 4, *test, '--work-dir', str(tmp_path / '4'), '--out', str(files[1]),
        '--launcher', 'pytorch', *options,
    )  # fmt: skip
    one, four = map(detections, files)
    assert [image for image, *_ in four] == [1, 2, 3, 4, 5, 6]
    assert four == one
    assert any(boxes for _, boxes, _ in one)
    one, four = (
        json.loads(next((tmp_path / name).glob('*/*.json')).read_text()) for name in ('1', '4')
    )
    during = figures(trained)
    assert during == {name: one[name] for name in during} == {name: four[name] for name in during}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster of one node: ``srun`` notes its arguments, ``scontrol`` expands names."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    asked = tmp_path / 'asked'
    for name, body in (
        ('srun', f'printf "%s\\n" "$@" > {asked}'),
        ('scontrol', '[ "$*" = "show hostnames local[1-2]" ] && echo 127.0.0.1'),
    ):
        (folder / name).write_text(f'#!/bin/sh\n{body}\n')
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
    return asked


def srun(asked: Path, data: Path) -> list[str]:
    """Do what ``srun`` was asked for, on this machine; returns its own options."""
    words = asked.read_text().splitlines()
    tool = words.index('-u') + 1
    options = words[: tool - 2]
    (count,) = (word.removeprefix('--ntasks=') for word in options if '--ntasks=' in word)
    env = dict(SHAPES_ROOT=str(data), SLURM_NTASKS=count, SLURM_NODELIST='local[1-2]')
    env['MASTER_PORT'] = '29617'
    args = (os.path.relpath(words[tool]), *words[tool + 1 :])
    started = [
        Started(args, {**env, 'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(rank)})
        for rank in range(int(count))
    ]
    for process in started:
        process.result()
    return options


@pytest.mark.slow
def test_slurm(data, slurm, tmp_path):
    work_dir = tmp_path / 'work'
    env = dict(GPUS='2', GPUS_PER_NODE='1', CPUS_PER_TASK='3', SRUN_ARGS='--qos=low --exclusive')
    options = [*PLAIN, 'train_dataloader.dataset.indices=2', 'train_cfg.val_interval=5']
    run_afresh(
        data, 'tools/slurm_train.sh', 'gpu', 'atc', CONFIG, str(work_dir), '--cfg-options',
        *options, **env,
    )  # fmt: skip
    assert srun(slurm, data) == [
        '-p', 'gpu', '--job-name=atc', '--gres=gpu:1', '--ntasks=2', '--ntasks-per-node=1',
        '--cpus-per-task=3', '--kill-on-bad-exit=1', '--qos=low', '--exclusive',
    ]  # fmt: skip
    assert len(losses(work_dir)) == 1

    run_afresh(
        data, 'tools/slurm_test.sh', 'gpu', 'atc', CONFIG, str(work_dir / 'epoch_1.pth'),
        '--work-dir', str(tmp_path / 'test'), '--cfg-options', *PLAIN, **env,
    )  # fmt: skip
    assert '--job-name=atc' in srun(slurm, data)
    assert 'coco/bbox_mAP' in next((tmp_path / 'test').glob('*/*.json')).read_text()


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_that_did_not_start_the_process(data, tool, launcher):
    for script in (['tools/train.py', CONFIG], ['tools/test.py', CONFIG, 'a.pth']):
        assert f'error: --launcher {launcher} is for' in tool(*script, '--launcher', launcher)


@pytest.mark.slow
def test_a_fault_of_several_processes_is_one_line(data, tmp_path):
    result = run_afresh(
        data, 'tools/dist_train.sh', CONFIG, '2', '--work-dir', str(tmp_path),
        '--cfg-options', 'load_from=/no/such.pth', PORT='29618', check=False,
    )  # fmt: skip
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert lines[0] == 'Starting torchrun ...'
    assert lines[1] == 'Loading PyTorch and MMDetection, some seconds ...'
    assert lines[-1].startswith("error: load_from: no checkpoint at '/no/such.pth'")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['--nproc_per_node', 'two', 'any.py'], 'error: Unsupported nproc_per_node value: two'),
        (['--nproc_per_node', '2', 'KILLED'], 'error: process 1 was ended by SIGKILL'),
    ],
)
def test_torchrun_says_in_a_line_how_it_failed(data, tmp_path, arguments, line):
    script = tmp_path / 'killed.py'
    script.write_text(
        'import os, time\n'
        'if os.environ["RANK"] == "1":\n    os.kill(os.getpid(), 9)\n'
        'time.sleep(99)'
    )
    arguments = [str(script) if value == 'KILLED' else value for value in arguments]
    result = run_afresh(
        data, 'tools/torchrun.py', '--master_port', '29619', *arguments, check=False
    )
    assert result.returncode == 1
    first, last = result.stderr.strip().splitlines()
    assert first == 'Starting torchrun ...'
    assert last.startswith(line)
