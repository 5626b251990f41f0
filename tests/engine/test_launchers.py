"""What launchers tell their processes."""

from __future__ import annotations

import os

import pytest

from mmdet_atc.engine.launchers import set_torchrun_variables

NAMES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')


@pytest.mark.parametrize(
    ('launcher', 'variables'),
    [
        ('pytorch', NAMES),
        ('slurm', ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'MASTER_ADDR')),
        ('mpi', [*(f'OMPI_COMM_WORLD_{x}' for x in ('RANK', 'SIZE', 'LOCAL_RANK')), 'MASTER_ADDR']),
    ],
)
def test_all_launchers_speak_as_torchrun_does(monkeypatch, launcher, variables):
    for name in (*NAMES, 'MASTER_PORT'):
        monkeypatch.setenv(name, 'replaced')
    monkeypatch.setenv('SLURM_NODELIST', 'here')
    told = ['3', '4', '1', 'here']
    for name, value in zip(variables, told, strict=True):
        monkeypatch.setenv(name, value)
    set_torchrun_variables(launcher)
    assert [os.environ[name] for name in NAMES] == told


def test_processes_that_the_launcher_did_not_start_are_refused(monkeypatch):
    set_torchrun_variables('none')
    for name in NAMES[:3]:
        monkeypatch.setenv(name, '0')
    monkeypatch.delenv('MASTER_ADDR', raising=False)
    with pytest.raises(ValueError, match=r'torchrun .* not in the environment: MASTER_ADDR$'):
        set_torchrun_variables('pytorch')
