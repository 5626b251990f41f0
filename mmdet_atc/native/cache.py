"""Where what is made once per machine is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of the user's cache, which need not exist yet.

    Args:
        name (str): What is kept there.

    Returns:
        Path: ``$MMDET_ATC_CACHE/name`` (``~`` is the home folder); by default
        ``~/.cache/mmdet_atc/name``, with ``$XDG_CACHE_HOME`` in place of ``~/.cache`` where it is
        set.
    """
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmdet_atc'
    return Path(os.environ.get('MMDET_ATC_CACHE') or root).expanduser() / name
