"""What every tool begins with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmdet_atc.begin import begin

from .conftest import ROOT

TOOLS = ['tools/train.py', 'tools/test.py', 'demo/image_demo.py']


@pytest.mark.parametrize('tool', [*TOOLS, 'tools/analysis_tools/visualize_clusters.py'])
def test_a_tool_says_at_once_that_it_loads(tool):
    process = subprocess.Popen(
        [sys.executable, '-X', 'importtime', str(ROOT / tool), '--help'],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    loaded = set()
    with process:
        for line in process.stderr:
            if line.startswith('Loading PyTorch and MMDetection'):
                break
            loaded.add(line.rpartition('|')[2].strip().partition('.')[0])
        else:
            pytest.fail(f'{tool} did not say that it loads')
        process.kill()
    assert 'importlib' in loaded
    assert not loaded & {'numpy', 'torch', 'mmengine', 'mmcv', 'mmdet'}


def test_the_home_folder_is_followed_in_arguments(monkeypatch, capsys):
    monkeypatch.setenv('HOME', '/h')
    given = ['~/c.py', '--out-dir=~/o', '--cfg-options', 'a=~/b', '~', 'a~/b', '--~/x']
    monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools/train.py'), *given])
    begin()
    assert sys.argv[1:] == ['/h/c.py', '--out-dir=/h/o', '--cfg-options', 'a=~/b', '/h', *given[5:]]
    assert capsys.readouterr().err.startswith('Loading')


def test_another_program_is_left_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['/anywhere/tools/train.py', '~/c.py'])
    begin()
    assert sys.argv[1] == '~/c.py'
    assert not capsys.readouterr().err


@pytest.mark.parametrize('rank', ['0', '1'])
def test_of_several_processes_one_says_it(monkeypatch, capsys, rank):
    monkeypatch.setenv('LOCAL_RANK', rank)
    monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools/train.py')])
    begin()
    assert bool(capsys.readouterr().err) == (rank == '0')


def test_processes_that_a_tool_starts_are_left_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools/train.py')])
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-c', 'spawn', '--multiprocessing-fork'])
    begin()
    assert not capsys.readouterr().err
