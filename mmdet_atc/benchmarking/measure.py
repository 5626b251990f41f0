"""What a comparison of detectors measures of each."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor

from mmdet_atc.backbones import ATCViTAdapter

from .memory import PeakMemory
from .stages import StageTimes
from .timing import interleaved_times

#: What can be measured: inference of the backbone, of the detector without pre- and
#: post-processing, and a forward and backward pass.
KINDS = ('backbone', 'detector', 'training')
AMP = {'off': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}

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
    """

    def __init__(
        self,
        models: dict[str, BaseDetector],
        device: torch.device,
        amp: str = 'off',
        compiled: Collection[str] = (),
    ) -> None:
        self.models = models
        self.device = device
        self.amp = amp
        self.compiled = compiled
        for name in compiled:
            models[name].backbone.compile()

    def measure(self, batch: dict, repeats: int, kinds: Sequence[str]) -> list[Row]:
        """One row per detector; the detectors take turns, call by call.

        Args:
            batch (dict): What the data preprocessors take.
            repeats (int): Measured calls of each.
            kinds (Sequence[str]): Some of :data:`KINDS`.

        Returns:
            list[Row]: In the order of the detectors.
        """
        inputs = {name: self._prepared(model, batch) for name, model in self.models.items()}
        size = len(batch['inputs'])
        rows = {
            name: Row(name, size, tokens_per_block(model, inputs[name]['inputs'][:1]))
            for name, model in self.models.items()
        }
        functions: dict[str, Callable] = dict(
            backbone=self._backbone, detector=self._detector, training=self._training
        )
        for what in kinds:
            run = functions[what]
            calls = {
                name: lambda run=run, name=name: run(self.models[name], inputs[name])
                for name in self.models
            }
            for name, times in interleaved_times(calls, repeats, self.device).items():
                rows[name].seconds[what] = times
                with PeakMemory(self.device) as memory:
                    calls[name]()
                rows[name].peak_mib[what] = memory.mebibytes
        run = self._detector if 'detector' in kinds else self._backbone
        for name, model in self.models.items():
            if name in self.compiled:
                continue
            with StageTimes(model, self.device) as stages:
                for _ in range(_STAGE_CALLS):
                    run(model, inputs[name])
            rows[name].stages = {
                stage: seconds / _STAGE_CALLS for stage, seconds in stages.seconds.items()
            }
        return list(rows.values())

    def _prepared(self, model: BaseDetector, batch: dict) -> dict:
        return model.data_preprocessor(batch, training=True)

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

    def _training(self, model: BaseDetector, inputs: dict) -> None:
        model.train()
        with self._precision():
            losses = model(**inputs, mode='loss')
            total, _ = model.parse_losses(losses)
        total.backward()
        model.zero_grad(set_to_none=True)
        model.eval()


@torch.inference_mode()
def tokens_per_block(model: BaseDetector, image: Tensor) -> list[int]:
    """Tokens that the MLP of each Transformer block sees.

    Args:
        model (BaseDetector): Detector on a ViT-Adapter.
        image (Tensor): ``(1, 3, H, W)``.

    Returns:
        list[int]: One number per block.
    """
    backbone = model.backbone
    current = (image.shape[-2] // 16) * (image.shape[-1] // 16)
    stages = iter(
        backbone.forward_with_clusters(image)[1] if isinstance(backbone, ATCViTAdapter) else ()
    )
    counts = []
    for index in range(len(backbone.blocks)):
        if index in getattr(backbone, 'keep_rates', {}):
            current = next(stages).num_clusters
        counts.append(current)
    return counts
