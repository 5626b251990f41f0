"""Configs and tools: beside the package in a clone, below ``.mim/`` where a wheel was installed."""

from __future__ import annotations

from pathlib import Path

#: Scripts by their command in ``python -m mmdet_atc``.
SCRIPTS = {'train': 'tools/train.py', 'test': 'tools/test.py', 'demo': 'demo/image_demo.py'}
_PACKAGE = Path(__file__).parent


def shipped(path: str) -> Path:
    """Where a file of the repository is, such as ``'tools/train.py'``."""
    installed = _PACKAGE / '.mim'
    return (installed if installed.is_dir() else _PACKAGE.parent) / path
