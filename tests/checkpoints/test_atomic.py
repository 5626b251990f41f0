"""A checkpoint file is old or new, never half."""

from __future__ import annotations

import builtins
import os
import resource
import signal

import pytest
from mmengine.fileio import get_file_backend

from mmdet_atc.checkpoints import ATOMIC_BACKEND


@pytest.fixture
def backend(tmp_path):
    return get_file_backend(str(tmp_path), backend_args=dict(backend=ATOMIC_BACKEND))


def test_it_writes_reads_and_makes_folders(backend, tmp_path):
    backend.put(b'new', tmp_path / 'a' / 'b.pth')
    backend.put_text('text', tmp_path / 'a' / 'c')
    assert backend.get(tmp_path / 'a' / 'b.pth') == b'new'
    assert sorted(os.listdir(tmp_path / 'a')) == ['b.pth', 'c']


def test_a_kill_in_the_middle_of_writing_leaves_the_old_file(backend, tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'old')
    open_file = builtins.open

    def open_and_die_writing(*args, **kwargs):
        file = open_file(*args, **kwargs)
        os.write(file.fileno(), b'half')
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        builtins.open = open_and_die_writing
        backend.put(b'whole', path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert path.read_bytes() == b'old'
    backend.put(b'whole', path)
    assert os.listdir(tmp_path) == ['epoch_1.pth']
    assert path.read_bytes() == b'whole'


def test_a_full_disk_leaves_the_old_file_and_says_which(backend, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'old')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf'cannot write {path}: File too large.*--resume'):
            backend.put(bytes(50_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['epoch_1.pth']
