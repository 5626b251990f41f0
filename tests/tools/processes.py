"""Tools in processes of their own that need not import torch and mmdet each.

A server imports them once and forks for every process; it never computes anything itself, so a
fork is as good as a fresh interpreter. A process must leave none behind, and is ended if it looks
for another host than this. Only variables that libraries read at import must be given
to a fresh one (:func:`run_afresh`).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..conftest import ROOT

_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload(
    ['mmdet_atc.engine', 'mmdet_atc.visualization', 'mmdet.apis', 'mmdet.engine.hooks']
)
_SECONDS_TO_END = 15
_HOME = (None, '', 'localhost', '127.0.0.1', '::1')


@dataclass
class Started:
    """A running tool; :meth:`result` waits for it."""

    args: tuple[str, ...]
    env: dict[str, str]
    output: tempfile.TemporaryDirectory = field(default_factory=tempfile.TemporaryDirectory)

    def __post_init__(self) -> None:
        self._process = _FORKS.Process(
            target=_run, args=(self.args, {**os.environ, **self.env}, self.output.name)
        )
        self._process.start()

    def result(self, check: bool = True, timeout: float = 500) -> subprocess.CompletedProcess:
        """Status and output of the tool, once it and all that it started have ended.

        Args:
            check (bool): Whether a status other than 0 is a failure of the test.
            timeout (float): Seconds that it may take.
        """
        self._process.join(timeout)
        session, status = self._process.pid, self._process.exitcode
        # Workers of a killed process look after it once a second.
        left = _members(session)
        deadline = time.monotonic() + _SECONDS_TO_END
        while left and status is not None and time.monotonic() < deadline:
            time.sleep(0.1)
            left = _members(session)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        stdout, stderr = (Path(self.output.name, name).read_text() for name in ('stdout', 'stderr'))
        assert status is not None, f'{self.args} did not end in {timeout} s: {stderr[-3000:]}'
        assert not left, f'{self.args} left processes behind'
        assert not check or status == 0, stdout[-3000:] + stderr[-3000:]
        return subprocess.CompletedProcess(self.args, status, stdout, stderr)


def run(data: Path, *args: str, check: bool = True, **env: str) -> subprocess.CompletedProcess:
    """Run a tool on the generated data, as ``python ARGS``; see :class:`Started`."""
    return Started(args, dict(SHAPES_ROOT=str(data), **env)).result(check)


def run_together(
    data: Path, count: int, *args: str, check: bool = True, **env: str
) -> list[subprocess.CompletedProcess]:
    """Run ``count`` processes of a tool as torchrun would, but let each end by itself."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    env = dict(SHAPES_ROOT=str(data), MASTER_ADDR='127.0.0.1', MASTER_PORT=port, **env)
    ranks = [
        dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count)) for rank in range(count)
    ]
    started = [Started(args, {**env, **rank}) for rank in ranks]
    return [process.result(check) for process in started]


def run_afresh(
    data: Path, *args: str, check: bool = True, **env: str
) -> subprocess.CompletedProcess:
    """Run a tool in a new interpreter, or a script."""
    command = args if args[0].endswith('.sh') else (sys.executable, *args)
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, 'PYTHON': sys.executable, 'SHAPES_ROOT': str(data), **env},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert not check or result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def _run(args: tuple[str, ...], env: dict[str, str], output: str) -> None:
    os.setsid()
    for number, name in ((1, 'stdout'), (2, 'stderr')):
        os.dup2(os.open(os.path.join(output, name), os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    sys.addaudithook(_stay_at_home)
    # Sums differ in the last digit with the number of threads.
    torch.set_num_threads(1)
    sys.argv = list(args)
    runpy.run_path(args[0], run_name='__main__')


def _stay_at_home(event: str, args: tuple) -> None:
    """Audit hook: nothing is fetched that was not asked for, whatever would catch an exception."""
    if event in ('socket.getaddrinfo', 'socket.gethostbyname'):
        host = args[0]
    elif event == 'socket.connect' and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if host not in _HOME:
        os.write(2, f'a connection to {host} was tried\n'.encode())
        os._exit(99)


def _members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                state, *_, its_session = _after_name(entry)[:4]
            except OSError:
                continue  # it has ended meanwhile
            if int(its_session) == session and state != 'Z':
                found.append(int(entry.name))
    return found


def _after_name(entry: Path) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    return (entry / 'stat').read_text().rpartition(')')[2].split()
