"""SHA-256 of checkpoints: which ones are published, and whether a file has one."""

from __future__ import annotations

import hashlib
import json
import os.path as osp
from pathlib import Path

from .errors import CheckpointError

_PUBLISHED = Path(__file__).with_name('published_sha256.json')

#: Published digests of files on the Hugging Face hub, by ``ORG/REPO/FILE``.
PUBLISHED_SHA256: dict[str, str] = json.loads(_PUBLISHED.read_text())['sha256']


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: str | Path, expected: str, source: str) -> None:
    """Refuse a file that is not the one that was meant.

    Args:
        path (str | Path): Local file.
        expected (str): 64 hexadecimal digits.
        source (str): What the user called the file, for the message.

    Raises:
        CheckpointError: If the file has another digest.
    """
    found = sha256_of(path)
    if found != expected:
        raise CheckpointError(
            f'{source} has sha256 {found}, expected {expected}: the file was changed on the hub or '
            f'in the cache. Delete {osp.realpath(path)} to download it again, or, if you trust the '
            f'file, ask for it with #sha256={found}'
        )
