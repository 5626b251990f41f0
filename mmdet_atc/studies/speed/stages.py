"""Time per stage of a detector's forward pass."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from mmdet.models.detectors import BaseDetector
from timm.layers import Mlp
from torch import nn

from mmdet_atc.layers import Attention, Block, Extractor, Injector, SpatialPriorModule
from mmdet_atc.layers.selective import SelectiveModule
from mmdet_atc.merging import TokenClusters

from .timing import synchronize

#: Norms, residuals and whatever else no stage holds.
OTHER = 'other'
#: What is timed, in the order of a forward pass: modules of the backbone by their type, another
#: class, or a part of the detector by its name; the method; the stage that it is.
_TIMED: tuple[tuple[type | str, str, str], ...] = (
    (SpatialPriorModule, 'forward', 'spatial prior'),
    ('backbone', '_patch_tokens', 'patch embedding'),
    (Injector, 'forward', 'Injector'),
    (Attention, 'forward', 'attention'),
    # The second pass over the attention of mergers that rank tokens by it.
    (Block, 'received_attention', 'received attention'),
    (Mlp, 'forward', 'MLP'),
    (SelectiveModule, 'forward', 'token selection'),
    # PyTorch may run its attention and MLP as one kernel.
    (nn.TransformerEncoderLayer, 'forward', 'selective blocks'),
    (Extractor, 'forward', 'Extractor'),
    ('backbone.merger', 'assign', 'clustering'),
    (TokenClusters, 'merge', 'merge and back-project'),
    (TokenClusters, 'unmerge', 'merge and back-project'),
    (TokenClusters, 'merge_tokens', 'merge and back-project'),
    ('backbone', '_finest_output', 'output maps'),
    ('backbone', '_coarser_outputs', 'output maps'),
    ('neck', 'forward', 'neck'),
    ('rpn_head', 'predict', 'RPN'),
    ('roi_head', 'forward', 'RoI heads'),
)
#: All stages, in the order of a forward pass.
STAGES = (*dict.fromkeys(stage for *_, stage in _TIMED), OTHER)


class StageTimes:
    """Context manager: seconds per stage while the detector runs inside the block.

    The device is waited for around every stage, so that the sum is longer than an undisturbed run.
    Stages do not overlap, and with what belongs to none (:data:`OTHER`) they add up to the time
    spent in the block.

    Args:
        model (BaseDetector): The detector, or what has a backbone only; unchanged after the
            block.
        device (torch.device): Where it is.

    Attributes:
        seconds (dict[str, float]): Total of each of :data:`STAGES` that ran, complete after the
            block.
    """

    def __init__(self, model: BaseDetector, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._model = model
        self._stage = OTHER
        self._patches = ExitStack()

    def __enter__(self) -> StageTimes:
        for what, name, stage in _TIMED:
            for owner in _owners(self._model, what):
                timed = self._timed(getattr(owner, name), stage)
                self._patches.enter_context(mock.patch.object(owner, name, timed))
        synchronize(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_) -> None:
        synchronize(self.device)
        whole = time.perf_counter() - self._start
        self.seconds[OTHER] = whole - sum(self.seconds.values())
        self._patches.close()

    def stage(self) -> str:
        """The stage that runs now."""
        return self._stage

    def _timed(self, function: Callable, stage: str) -> Callable:
        def run(*args, **kwargs):
            if self._stage != OTHER:  # a part of another stage
                return function(*args, **kwargs)
            synchronize(self.device)
            start = time.perf_counter()
            self._stage = stage
            result = function(*args, **kwargs)
            self._stage = OTHER
            synchronize(self.device)
            self.seconds[stage] += time.perf_counter() - start
            return result

        return run


def _owners(model: BaseDetector, what: type | str) -> list[Any]:
    """The objects of a detector that :data:`_TIMED` means."""
    if isinstance(what, str):
        found = functools.reduce(
            lambda owner, name: getattr(owner, name, None), what.split('.'), model
        )
        return [] if found is None else [found]
    if not issubclass(what, nn.Module):
        return [what]
    return [module for module in model.backbone.modules() if isinstance(module, what)]
