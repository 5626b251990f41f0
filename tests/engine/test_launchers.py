"""What launchers tell their processes."""

from __future__ import annotations

import pytest

from mmdet_atc.engine.launchers import check_launched, world_size


@pytest.mark.parametrize(
    ('launcher', 'variable'),
    [('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')],
)
def test_world_size(monkeypatch, launcher, variable):
    assert world_size(launcher) == 1
    monkeypatch.setenv(variable, '4')
    assert world_size(launcher) == 4
    assert world_size('none') == 1


def test_processes_that_the_launcher_started_pass(monkeypatch):
    check_launched('none')
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '0')
    with pytest.raises(ValueError, match=r'torchrun .* not in the environment: MASTER_ADDR$'):
        check_launched('pytorch')
    monkeypatch.setenv('MASTER_ADDR', 'here')
    check_launched('pytorch')
