"""What a launcher (torchrun, SLURM's srun, mpirun) tells the processes that it starts."""

from __future__ import annotations

import os
import subprocess

#: By launcher, where it puts what torchrun calls RANK, WORLD_SIZE and LOCAL_RANK.
_VARIABLES = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)
#: By launcher, which variable leads to the host of the first process.
_ADDRESS = dict(pytorch='MASTER_ADDR', slurm='SLURM_NODELIST', mpi='MASTER_ADDR')
_STARTED_BY = dict(
    pytorch='torchrun (tools/dist_*.sh)', slurm='srun (tools/slurm_*.sh)', mpi='mpirun'
)


def set_torchrun_variables(launcher: str) -> None:
    """Set torchrun's environment variables from those of the launcher of the command line.

    MMEngine does so too, but selects a CUDA device with it.

    Args:
        launcher (str): ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        ValueError: If the launcher did not start this process: one of its variables is missing.
    """
    if launcher == 'none':
        return
    needed = (*_VARIABLES[launcher], _ADDRESS[launcher])
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher} is for processes started by {_STARTED_BY[launcher]}; '
            f'not in the environment: {", ".join(missing)}'
        )
    for name, given in zip(_VARIABLES['pytorch'], _VARIABLES[launcher], strict=True):
        os.environ[name] = os.environ[given]
    os.environ.setdefault('MASTER_PORT', '29500')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        # The variable holds a list such as node[01-04]; only SLURM itself knows its notation.
        command = ['scontrol', 'show', 'hostnames', os.environ[_ADDRESS[launcher]]]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = listed.stdout.splitlines()[0]
