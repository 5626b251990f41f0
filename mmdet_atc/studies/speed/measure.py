"""What a comparison of detectors measures of each."""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.utils import ProgressBar
from torch import Tensor

from mmdet_atc.backbones import ATCViTAdapter, SViTAdapter, ViTAdapter
from mmdet_atc.merging.plan import tokens_left

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

    def speed_up(self, base: Row, what: str) -> float:
        """How many times faster than another row: the median over rounds of both rows' calls.

        The two calls of a round lie close together, so that a machine which is slow for a while
        is slow for both.
        """
        pairs = zip(base.seconds[what], self.seconds[what], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def compare(
    models: Mapping[str, BaseDetector],
    batches: Sequence[dict],
    kinds: Sequence[str],
    repeats: int,
    device: torch.device,
    amp: str = 'off',
    compiled: Collection[str] = (),
    optim_wrappers: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Row]:
    """Measure detectors, which take turns call by call; a bar on stderr counts the calls.

    Args:
        models (Mapping[str, BaseDetector]): Detectors in evaluation mode, on ``device``.
        batches (Sequence[dict]): What the data preprocessors take.
        kinds (Sequence[str]): Some of :data:`KINDS`.
        repeats (int): Measured calls of each.
        device (torch.device): The device.
        amp (str): A name of :data:`AMP`. Default: ``'off'``.
        compiled (Collection[str]): Detectors whose backbones are compiled; they have no times of
            stages. Default: none.
        optim_wrappers (Mapping[str, Mapping], optional): The configs' ``optim_wrapper``, which
            ``'training'`` needs. On a CUDA device with ``amp`` the loss is scaled as they say.
            Default: None.

    Returns:
        list[Row]: Batch by batch, in the order of the detectors.

    Raises:
        ValueError: If training is to be measured of a detector without an optimizer wrapper.
    """
    optim_wrappers = optim_wrappers or {}
    if 'training' in kinds and (lacking := models.keys() - optim_wrappers.keys()):
        raise ValueError(f'training needs optim_wrappers for all, got none for {lacking}')
    for name in compiled:
        models[name].backbone.compile()
    groups = [
        [
            _Subject(name, model, batch, device, AMP[amp], optim_wrappers.get(name))
            for name, model in models.items()
        ]
        for batch in batches
    ]
    # A kind has one call more for memory.
    calls = len(models) * len(kinds) * (_WARM_UP_CALLS + repeats + 1)
    calls += (len(models) - len(compiled)) * _STAGE_CALLS
    on_call = ProgressBar(len(batches) * calls, file=sys.stderr).update
    for group in groups:
        for kind in kinds:
            with ExitStack() as stack:
                functions = {each.row.name: stack.enter_context(each.call(kind)) for each in group}
                times = interleaved_times(functions, repeats, device, _WARM_UP_CALLS, on_call)
            for each in group:
                each.row.seconds[kind] = times[each.row.name]
        for each in group:
            if each.row.name not in compiled:
                each.measure_stages('detector' if 'detector' in kinds else 'backbone', on_call)
    subjects = list(itertools.chain.from_iterable(groups))
    for each in subjects:
        for kind in kinds:
            each.measure_peak(kind)
            on_call()
    return [each.row for each in subjects]


class _Subject:
    """A detector with a batch that it is measured on."""

    def __init__(
        self,
        name: str,
        model: BaseDetector,
        batch: dict,
        device: torch.device,
        dtype: torch.dtype | None,
        optim_wrapper: Mapping[str, Any] | None,
    ) -> None:
        self.model = model
        self.inputs = model.data_preprocessor(batch, training=True)
        self.device = device
        self.dtype = dtype
        self.optim_wrapper = optim_wrapper
        images = self.inputs['inputs']
        self.row = Row(name, len(images), tokens_per_block(model.backbone, images))

    @contextmanager
    def call(self, kind: str) -> Iterator[Callable[[], None]]:
        """A call of the detector; inside, it may be set up for it."""
        if kind == 'training':
            assert self.optim_wrapper is not None
            scales_loss = self.device.type == 'cuda' and self.dtype is not None
            with training_step(self.model, self.optim_wrapper, self.autocast, scales_loss) as step:
                yield lambda: step(self.inputs)
        else:
            yield lambda: self.infer(kind)

    def autocast(self) -> torch.autocast:
        enabled = self.dtype is not None
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    @torch.inference_mode()
    def infer(self, kind: str) -> None:
        with self.autocast():
            if kind == 'backbone':
                self.model.backbone(self.inputs['inputs'])
            else:
                self.model(**self.inputs, mode='tensor')

    def measure_stages(self, kind: str, on_call: Callable[[], object]) -> None:
        with self.call(kind) as call, StageTimes(self.model, self.device) as stages:
            for _ in range(_STAGE_CALLS):
                call()
                on_call()
        self.row.stages = {name: total / _STAGE_CALLS for name, total in stages.seconds.items()}

    def measure_peak(self, kind: str) -> None:
        with self.call(kind) as call, PeakMemory(self.device) as memory:
            call()
            if kind == 'training':
                call()  # beside the optimizer's state, which the first step made
        self.row.peak_mib[kind] = memory.mebibytes


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
    if isinstance(backbone, ATCViTAdapter):
        return tokens_left(backbone.plan, depth, tokens, backbone.merger)
    return [tokens] * depth
