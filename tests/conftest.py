"""Where tests find the repository and the data that is not part of it."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported: with several test processes every one gets one thread.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ.setdefault('MKL_NUM_THREADS', '1')

import torch

# Before Triton is imported: without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

import mmdet_atc  # noqa: F401  before mmdet: it supplies mmcv's operators where they are missing

from .checkpoints.hub_server import HubServer, use_endpoint

# A busy machine is no fault.
settings.register_profile('untimed', deadline=None)
settings.load_profile('untimed')

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    """Outputs of the authors' model; they are not ours to distribute."""
    return _shared('golden')


@pytest.fixture(scope='session')
def golden_classification() -> Path:
    """Outputs of the authors' code beyond detection; they are not ours to distribute."""
    return _shared('golden_classification')


@pytest.fixture(scope='session')
def coco_tiny() -> Path:
    """A small part of COCO-2017; not ours to distribute."""
    return _shared('data/coco_tiny')


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f'not ours to distribute, and not at {path}')
    return path


@pytest.fixture
def run_tool(monkeypatch) -> Callable[..., None]:
    """Function that runs a tool in this process: importing all again takes longer than the work."""

    def run(path: str, *args: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(ROOT / path), *map(str, args)])
        runpy.run_path(sys.argv[0], run_name='__main__')

    return run


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """Where huggingface_hub keeps files, for one test."""
    constants = 'huggingface_hub.constants.'
    monkeypatch.setattr(constants + 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.delenv('HF_TOKEN', raising=False)
    monkeypatch.setattr(constants + 'HF_TOKEN_PATH', str(tmp_path / 'token'))
    monkeypatch.setattr(constants + 'HF_HUB_OFFLINE', False)
    return tmp_path / 'hub'


@pytest.fixture
def hub(hub_cache, monkeypatch):
    """A hub on this machine, which huggingface_hub asks."""
    server = HubServer()
    use_endpoint(monkeypatch, server.endpoint)
    # Retries wait; the pieces that arrive before a connection breaks are kept by whole chunks.
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    monkeypatch.setattr('huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE', 1000)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
