"""Which checkpoint of a work dir training can go on from."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from mmengine.logging import print_log

from .safe import CheckpointError, verify_checkpoint

_NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')


def find_resumable_checkpoint(work_dir: str) -> str | None:
    """The last whole checkpoint of a work dir.

    MMEngine's ``last_checkpoint`` is written after the checkpoint and not at once, so a crash may
    leave it behind the last file, empty, or pointing to where the work dir once was.

    Args:
        work_dir (str): Folder of a run.

    Returns:
        str, optional: Path of a checkpoint that was read and found whole; None if the folder has
        no checkpoint at all.

    Raises:
        CheckpointError: If it has some, but none is whole.
    """
    problems = []
    for path in _candidates(Path(work_dir)):
        try:
            verify_checkpoint(str(path))
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            print_log(f'Not resumed: {problem}', logger='current', level=logging.WARNING)
        return str(path)
    if problems:
        raise CheckpointError(f'no checkpoint in {work_dir} can be resumed: ' + '; '.join(problems))
    return None


def _candidates(folder: Path) -> list[Path]:
    """Checkpoints from the one to prefer to the last resort."""
    pointer = folder / 'last_checkpoint'
    files = [path for path in folder.glob('*.pth') if _NAME.fullmatch(path.name)]
    # By time first: the folder may hold checkpoints of a longer run before this one.
    files.sort(key=lambda path: (path.stat().st_mtime_ns, _step(path)), reverse=True)
    text = pointer.read_text().strip() if pointer.is_file() else ''
    named = next((p for p in (Path(text), folder / Path(text).name) if p.is_file()), None)
    if named is None:
        return files
    written = pointer.stat().st_mtime_ns
    # Saved, but the crash came before `last_checkpoint` was written.
    later = [p for p in files if p.stat().st_mtime_ns > written and _step(p) > _step(named)]
    rest = [p for p in files if p not in later and not p.samefile(named)]
    return [*later, named, *rest]


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match.group(2)) if match else -1
