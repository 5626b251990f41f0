"""Where tests find the repository and the data that is not part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported: with several test processes every one gets one thread.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ.setdefault('MKL_NUM_THREADS', '1')

import torch

# Before Triton is imported: without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

import mmdet_atc  # noqa: F401  before mmdet: it supplies mmcv's operators where they are missing

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    """Outputs of the authors' model; they are not ours to distribute."""
    path = SHARED / 'golden'
    if not path.is_dir():
        pytest.skip(f"the authors' golden outputs are not at {path}")
    return path


@pytest.fixture(scope='session')
def golden_classification() -> Path:
    """Outputs of the authors' code beyond detection; they are not ours to distribute."""
    path = SHARED / 'golden_classification'
    if not path.is_dir():
        pytest.skip(f"the authors' golden outputs are not at {path}")
    return path


@pytest.fixture(scope='session')
def coco_tiny() -> Path:
    """A small part of COCO-2017; not ours to distribute."""
    path = SHARED / 'data' / 'coco_tiny'
    if not path.is_dir():
        pytest.skip(f'no COCO images at {path}')
    return path


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
