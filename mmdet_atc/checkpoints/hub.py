"""``hf://ORG/REPO/FILE[@REVISION][#sha256=DIGEST]`` as a checkpoint path.

Everything about the download is huggingface_hub's: cache, resume, progress bar, tokens and the
environment variables ``HF_HOME``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os.path as osp
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .safe import CheckpointError, DownloadError, load_safely

_FORM = re.compile(
    r'hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<filename>[^@#]+)'
    r'(@(?P<revision>[^@#]+))?(#sha256=(?P<sha256>[0-9a-f]{64}))?'
)

_TABLE = Path(__file__).with_name('published_sha256.json').read_text()
#: Published digests of files on the Hugging Face hub, by ``ORG/REPO/FILE``.
PUBLISHED_SHA256: dict[str, str] = json.loads(_TABLE)['sha256']


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub.

    Args:
        repo (str): ``ORG/REPO`` of a model repository.
        filename (str): Path of the file inside the repository.
        revision (str, optional): Branch, tag or commit. None is the main branch.
        sha256 (str, optional): Digest that the file must have. None is the published one, where
            :data:`PUBLISHED_SHA256` has it.
    """

    repo: str
    filename: str
    revision: str | None = None
    sha256: str | None = None

    @classmethod
    def parse(cls, path: str) -> HubFile:
        """The file that an ``hf://`` path names.

        Raises:
            CheckpointError: If the path is not ``hf://ORG/REPO/FILE[@REVISION][#sha256=DIGEST]``.
        """
        match = _FORM.fullmatch(path)
        if match is None:
            raise CheckpointError(
                f'checkpoint path must be hf://ORG/REPO/FILE[@REVISION][#sha256=DIGEST] '
                f'(64 digits 0-9a-f), got {path!r}'
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f'hf://{self.repo}/{self.filename}' + (f'@{self.revision}' if self.revision else '')


def load_from_hub(filename: str, map_location: str | None = None) -> dict:
    """Checkpoint from the Hugging Face hub, or from its cache on this machine.

    Processes of one machine that ask for the same file wait for a single download.

    Args:
        filename (str): ``hf://ORG/REPO/FILE[@REVISION][#sha256=DIGEST]``.
        map_location (str, optional): As :func:`torch.load`.

    Returns:
        dict: The checkpoint, unpickled with ``weights_only=True``.

    Raises:
        DownloadError: If the file is neither on the hub nor in the cache, or may not be read.
        CheckpointError: If the path is malformed, the digest is another one, or the file holds
            classes that are not allowed.
    """
    file = HubFile.parse(filename)
    path = download(file)
    expected = file.sha256 or PUBLISHED_SHA256.get(f'{file.repo}/{file.filename}')
    if expected is not None:
        check_sha256(path, expected, str(file))
    return load_safely(path, map_location, source=str(file))


def download(file: HubFile) -> str:
    """Local path of a file of the hub, downloaded unless the cache has it.

    Raises:
        DownloadError: If it is neither on the hub nor in the cache, or may not be read.
    """
    try:
        return hf_hub_download(
            file.repo, file.filename, revision=file.revision, local_files_only=_is_offline()
        )
    except Exception as error:
        raise DownloadError(f'cannot load {file}: {_reason(file, error)}') from error


def _is_offline() -> bool:
    """Whether the hub's name has no address; huggingface_hub would try for half a minute."""
    if getproxies():
        return False  # which resolve names
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except socket.gaierror:
        return True
    return False


def _reason(file: HubFile, error: Exception) -> str:
    """What happened and what to do, in one line."""
    hub = constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return (
            f'access to {file.repo} must be granted: ask for it at {hub}/{file.repo}, then log in '
            'with `hf auth login` or set HF_TOKEN'
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f'{hub} has no repository {file.repo}, or it is private: check the name, or log in '
            'with `hf auth login` or set HF_TOKEN'
        )
    if isinstance(error, RevisionNotFoundError):
        return f'{file.repo} has no branch, tag or commit {file.revision!r}'
    if isinstance(error, LocalEntryNotFoundError):
        where = f'the cache {constants.HF_HUB_CACHE}'
        if constants.HF_HUB_OFFLINE:
            return (
                f'HF_HUB_OFFLINE is set and the file is not in {where}: load it once with a '
                'connection, or give a local file'
            )
        return (
            f'{hub} cannot be reached and the file is not in {where}: check the connection and '
            'HF_ENDPOINT, or give a local file'
        )
    if isinstance(error, EntryNotFoundError):
        return (
            f'{file.repo} has no file {file.filename!r} at revision {file.revision or "main"!r}: '
            f'see {hub}/{file.repo}/tree/{file.revision or "main"}'
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS):
        return f'{constants.HF_HUB_CACHE} cannot be written: HF_HOME names another folder'
    summary = ' '.join(str(error).split()) or type(error).__name__
    if getattr(getattr(error, 'response', None), 'status_code', None) in (401, 403):
        return f'{hub} refuses your token: renew it with `hf auth login` or HF_TOKEN ({summary})'
    return f'the download failed, try again ({summary})'


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
