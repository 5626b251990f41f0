"""Checkpoints that survive a crash at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmdet_atc.checkpoints import ATOMIC_BACKEND


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's hook, but at any moment the last checkpoint saved is whole and in its place.

    Files are written beside their place and moved there, and an outdated checkpoint
    (``max_keep_ckpts``, ``save_best``) is deleted after the new one is there, not before. So one
    more file than ``max_keep_ckpts`` is on disk for a moment.

    Args:
        **kwargs: As for ``CheckpointHook``.
    """

    file_backend: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        is_local = '://' not in str(self.out_dir)
        if is_local and not kwargs.get('backend_args') and not kwargs.get('file_client_args'):
            self.backend_args = dict(backend=ATOMIC_BACKEND)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._deleting_last():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._deleting_last():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _deleting_last(self) -> Iterator[None]:
        """Put off deletions by the storage backend until all of a block's files are written."""
        backend: Any = self.file_backend
        outdated: list[tuple[Callable, str]] = []
        self.file_backend = _PutOff(backend, outdated)
        try:
            yield
        finally:
            self.file_backend = backend
        bests = getattr(self, 'best_ckpt_path_dict', None) or {}
        current = {self.last_ckpt, getattr(self, 'best_ckpt_path', None), *bests.values()}
        for delete, path in outdated:
            if path not in current:
                delete(path)


class _PutOff:
    """A storage backend whose deletions are only noted down."""

    def __init__(self, backend: Any, outdated: list[tuple[Callable, str]]) -> None:
        self._backend = backend
        self._outdated = outdated

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._backend, name)
        if name in ('remove', 'rmtree'):
            return lambda path: self._outdated.append((attribute, path))
        return attribute
