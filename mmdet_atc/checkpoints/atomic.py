"""Checkpoint files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mmengine.fileio import LocalBackend

#: Name of the storage backend in MMEngine's ``backend_args=dict(backend=...)``.
ATOMIC_BACKEND = 'AtomicLocalBackend'
#: Ending of a file that is still being written.
PARTIAL = '.partial'


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when it is whole and on disk.

    After an error ``path`` is as it was. Missing folders are made.

    Args:
        path (Path): A local path.

    Yields:
        BinaryIO: The file, open for writing.

    Raises:
        OSError: If it cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage, but a file replaces an older one only once it is on disk.

    A process that is killed while it writes, or a full disk, leaves the older file as it was.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` beside ``filepath``, then move it there; missing folders are made.

        Raises:
            OSError: If the content cannot be written; the message names the file.
        """
        try:
            with replaced(Path(filepath)) as file:
                file.write(obj)
        except OSError as error:
            raise OSError(
                error.errno,
                f'cannot write {filepath}: {error.strerror}; what was saved before is untouched, '
                'make room or choose another --work-dir and continue with --resume',
            ) from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """:meth:`put` of ``obj`` in ``encoding``."""
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a loss of power, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
