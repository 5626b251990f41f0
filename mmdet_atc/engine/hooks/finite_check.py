"""NaN and Inf end a run where they start, not hours later."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmdet_atc.arguments import check_counts
from mmdet_atc.backbones import NonFiniteError, ViTAdapter, non_finite_error

from ..private import unwrapped


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Checks the backbone's outputs and says which module and which image are at fault.

    In validation and testing every batch is checked, in training every ``interval`` iterations:
    an overflow of half precision there is the loss scaler's business and passes.

    Args:
        interval (int): Training iterations from one check to the next. Default: 50.

    Raises:
        ValueError: If ``interval`` is not positive.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 50) -> None:
        check_counts(interval=interval)
        self.interval = interval
        self._handle: RemovableHandle | None = None
        self._in_training = False
        self._checking = False
        self._image_names: Sequence[str] | None = None

    def before_train(self, runner: Runner) -> None:
        backbone = getattr(unwrapped(runner), 'backbone', None)
        if self._handle is None and isinstance(backbone, ViTAdapter):
            self._handle = backbone.register_forward_hook(
                self._check, with_kwargs=True, always_call=True
            )

    before_test = before_train

    def before_val(self, runner: Runner) -> None:
        self._in_training = self._handle is not None
        self.before_train(runner)

    def after_train(self, runner: Runner) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    after_test = after_train

    def after_val(self, runner: Runner) -> None:
        if not self._in_training:
            self.after_train(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._start(data_batch, self.every_n_train_iters(runner, self.interval))

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._start(data_batch, True)

    before_test_iter = before_val_iter

    def _start(self, data_batch: Any, checking: bool) -> None:
        self._checking = checking
        if self._handle is None or not isinstance(data_batch, dict):
            return
        samples = data_batch.get('data_samples', ())
        if samples and isinstance(samples[0], (list, tuple)):
            samples = samples[0]  # test-time augmentation: views of the same images
        self._image_names = [
            f'{sample.get("img_id")} ({sample.get("img_path")})' for sample in samples
        ] or None

    def _check(
        self,
        backbone: ViTAdapter,
        args: tuple,
        kwargs: dict[str, Any],
        outputs: tuple[Tensor, ...] | None,
    ) -> None:
        refused = sys.exc_info()[1]  # by clustering, which cannot say where NaN comes from
        if not isinstance(refused, NonFiniteError):
            refused = None
            if not self._checking or outputs is None or all(x.isfinite().all() for x in outputs):
                return
        image = args[0] if args else kwargs['image']
        found = non_finite_error(backbone, image, self._image_names)
        if found and refused:
            refused.args = found.args
        elif found:
            raise found
