"""Workers end with the process that they work for."""

from __future__ import annotations

import os
import signal
import time

from mmdet_atc.engine import seed_worker


def test_a_worker_whose_parent_is_killed_ends():
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            seed_worker(0)
            os.write(writer, b'started')
            time.sleep(60)
        time.sleep(60)
    os.close(writer)
    assert os.read(reader, 7) == b'started'
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    start = time.monotonic()
    assert os.read(reader, 1) == b''  # the pipe closes when its last writer has ended
    assert time.monotonic() - start < 10
