"""The environment's script: what it refuses, and how it builds mmcv."""

from __future__ import annotations

import os
import subprocess

import pytest

from ..conftest import ROOT


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        (dict(MMDET_ATC_TORCH='nowhere.txt'), "there is no file 'nowhere.txt'"),
        (
            dict(MMDET_ATC_TORCH='requirements/torch-newest.txt', MMDET_ATC_LOCKED='1'),
            'exclude each other',
        ),
        (dict(PYTHON='python0'), "no 'python0' on PATH"),
    ],
)
def test_what_cannot_be_set_up_is_refused_in_one_line(tmp_path, environment, message):
    run = subprocess.run(
        ['tools/setup_env.sh', str(tmp_path / 'venv')],
        cwd=ROOT,
        env={**os.environ, 'MMDET_ATC_LOCKED': '', **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith('[setup] error: ')
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_mmcv_is_built_anew_for_each_torch(tmp_path):
    """pip's cache of wheels knows no torch, and once gave one that was built for another."""
    python = tmp_path / 'venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\n'
        'case "$*" in\n'
        '    *"import mmcv.ops"*) exit 1 ;;\n'
        '    *" wheel "*) echo "$*" >"$0.wheel"; echo no wheel; exit 1 ;;\n'
        '    -) echo an-abi ;;\n'
        'esac\n'
    )
    python.chmod(0o755)
    run = subprocess.run(
        ['tools/setup_env.sh', str(tmp_path / 'venv')],
        cwd=ROOT,
        env={**os.environ, 'MMDET_ATC_LOCKED': '', 'MMDET_ATC_CACHE': str(tmp_path / 'cache')},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert 'mmcv==2.1.0 failed; the log is' in run.stderr
    assert 'cache/wheels/an-abi/build.log: no wheel' in run.stderr
    assert '--no-cache-dir' in python.with_name('python.wheel').read_text().split()
