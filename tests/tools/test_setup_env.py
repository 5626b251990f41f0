"""The environment's script refuses before it makes anything."""

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
