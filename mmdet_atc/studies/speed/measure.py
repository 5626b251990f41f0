"""What a comparison of detectors measures of each."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor

from mmdet_atc.backbones import ATCViTAdapter, SViTAdapter, ViTAdapter

from .memory import PeakMemory
from .stages import StageTimes
from .timing import interleaved_times
from .training import training_step

#: What can be measured: inference of the backbone, of the detector without pre- and
#: post-processing, and a training step, the optimizer's included.
KINDS = ('backbone', 'detector', 'training')
AMP = {'off': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}

_WARM_UP_CALLS = 1
#: Calls that the times of stages are means of.
_STAGE_CALLS = 3


@dataclass
class Row:
    """Figures of one detector at one batch size.

    Args:
        name (str): The detector.
        batch (int): Images per batch.
        tokens (list[int]): Tokens that each block's MLP sees.
        seconds (dict[str, list[float]]): Per measured call, by kind (:data:`KINDS`).
        peak_mib (dict[str, float | None]): Peak memory of the same above the weights.
        stages (dict[str, float]): Mean seconds of each stage of a call of the detector, or of the
            backbone where detectors are not measured; they add up to the call.
    """

    name: str
    batch: int
    tokens: list[int]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_mib: dict[str, float | None] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    def median(self, what: str) -> float:
        return statistics.median(self.seconds[what])

    def speed_up(self, base: Row, what: str) -> float:
        """How many times faster than another row: the median over rounds of both rows' calls.

        The two calls of a round lie close together, so that a machine which is slow for a while
        is slow for both.
        """
        pairs = zip(base.seconds[what], self.seconds[what], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


class Comparison:
    """Detectors, one device and one precision.

    Args:
        models (dict[str, BaseDetector]): Detectors in evaluation mode, on ``device``.
        device (torch.device): The device.
        amp (str): ``'off'``, ``'fp16'`` or ``'bf16'``. Default: ``'off'``.
        compiled (Collection[str]): Detectors whose backbones are compiled; they have no times of
            stages. Default: none.
        optim_wrappers (Mapping[str, Mapping], optional): The configs' ``optim_wrapper``, which
            ``'training'`` needs. On a CUDA device with ``amp`` the loss is scaled as they say.
            Default: None.
    """

    def __init__(
        self,
        models: dict[str, BaseDetector],
        device: torch.device,
        amp: str = 'off',
        compiled: Collection[str] = (),
        optim_wrappers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.models = models
        self.device = device
        self.amp = amp
        self.compiled = compiled
        self.optim_wrappers = optim_wrappers or {}
        for name in compiled:
            models[name].backbone.compile()

    def num_calls(self, batches: int, repeats: int, kinds: Sequence[str]) -> int:
        """How often :meth:`measure` calls ``on_call``."""
        per_model = len(kinds) * (_WARM_UP_CALLS + repeats + 1)  # the last one for memory
        staged = sum(name not in self.compiled for name in self.models)
        return batches * (len(self.models) * per_model + _STAGE_CALLS * staged)

    def measure(
        self,
        batches: Sequence[dict],
        repeats: int,
        kinds: Sequence[str],
        on_call: Callable[[], object] = lambda: None,
    ) -> list[Row]:
        """One row per batch and detector; the detectors take turns, call by call.

        Args:
            batches (Sequence[dict]): What the data preprocessors take.
            repeats (int): Measured calls of each.
            kinds (Sequence[str]): Some of :data:`KINDS`.
            on_call (Callable): Called after every call of a detector. Default: nothing.

        Returns:
            list[Row]: Batch by batch, in the order of the detectors.

        Raises:
            ValueError: If training is to be measured of a detector without an optimizer wrapper.
        """
        if 'training' in kinds and (lacking := self.models.keys() - self.optim_wrappers.keys()):
            raise ValueError(f'training needs optim_wrappers for all, got none for {lacking}')
        measured = [self._times(batch, repeats, kinds, on_call) for batch in batches]
        for batch, rows in zip(batches, measured, strict=True):
            self._peaks(batch, rows, kinds, on_call)
        return [row for rows in measured for row in rows]

    def _times(
        self, batch: dict, repeats: int, kinds: Sequence[str], on_call: Callable[[], object]
    ) -> list[Row]:
        inputs = self._prepared(batch)
        size = len(batch['inputs'])
        rows = {
            name: Row(name, size, tokens_per_block(model.backbone, inputs[name]['inputs']))
            for name, model in self.models.items()
        }
        for kind in kinds:
            with contextlib.ExitStack() as stack:
                calls = {
                    name: stack.enter_context(self._call(kind, name, inputs[name]))
                    for name in self.models
                }
                times = interleaved_times(calls, repeats, self.device, _WARM_UP_CALLS, on_call)
            for name, row in rows.items():
                row.seconds[kind] = times[name]
        kind = 'detector' if 'detector' in kinds else 'backbone'
        for name, model in self.models.items():
            if name in self.compiled:
                continue
            with (
                self._call(kind, name, inputs[name]) as call,
                StageTimes(model, self.device) as stages,
            ):
                for _ in range(_STAGE_CALLS):
                    call()
                    on_call()
            rows[name].stages = {
                stage: seconds / _STAGE_CALLS for stage, seconds in stages.seconds.items()
            }
        return list(rows.values())

    def _peaks(
        self, batch: dict, rows: list[Row], kinds: Sequence[str], on_call: Callable[[], object]
    ) -> None:
        inputs = self._prepared(batch)
        for kind in kinds:
            for row in rows:
                with (
                    self._call(kind, row.name, inputs[row.name]) as call,
                    PeakMemory(self.device) as memory,
                ):
                    call()
                    if kind == 'training':
                        call()  # beside the optimizer's state, which the first step made
                row.peak_mib[kind] = memory.mebibytes
                on_call()

    def _prepared(self, batch: dict) -> dict[str, dict]:
        return {
            name: model.data_preprocessor(batch, training=True)
            for name, model in self.models.items()
        }

    @contextlib.contextmanager
    def _call(self, kind: str, name: str, inputs: dict) -> Iterator[Callable[[], None]]:
        """A call of a detector; inside, it may be set up for it."""
        model = self.models[name]
        if kind == 'training':
            scales_loss = self.device.type == 'cuda' and AMP[self.amp] is not None
            with training_step(
                model, self.optim_wrappers[name], self._precision, scales_loss
            ) as step:
                yield lambda: step(inputs)
        else:
            run = self._backbone if kind == 'backbone' else self._detector
            yield lambda: run(model, inputs)

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        dtype = AMP[self.amp]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            yield

    @torch.inference_mode()
    def _backbone(self, model: BaseDetector, inputs: dict) -> None:
        with self._precision():
            model.backbone(inputs['inputs'])

    @torch.inference_mode()
    def _detector(self, model: BaseDetector, inputs: dict) -> None:
        with self._precision():
            model(**inputs, mode='tensor')


@torch.inference_mode()
def tokens_per_block(backbone: ViTAdapter, images: Tensor) -> list[int]:
    """Tokens that the MLP of each Transformer block sees.

    Args:
        backbone (ViTAdapter): A backbone that may merge or select, in evaluation mode.
        images (Tensor): ``(B, 3, H, W)``, padded. An :class:`SViTAdapter` runs on them, as what it
            selects depends on the image.

    Returns:
        list[int]: One number per block; of tokens that are selected the mean over the images.
    """
    height, width = images.shape[-2:]
    tokens = (height // backbone.patch_size) * (width // backbone.patch_size)
    depth = len(backbone.blocks)
    if isinstance(backbone, SViTAdapter):
        _, selected = backbone.forward_with_selection(images)
        counts = [round(chosen.sum(dim=1).float().mean().item()) for chosen in selected]
        return [tokens] * (depth - len(counts)) + counts
    planned: Sequence[int | None] = (None,) * depth
    if isinstance(backbone, ATCViTAdapter) and backbone.plan is not None:
        planned = backbone.plan(depth, tokens, backbone.merger)
    counts = []
    for count in planned:
        tokens = tokens if count is None else count
        counts.append(tokens)
    return counts
