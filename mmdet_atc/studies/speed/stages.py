"""Time per stage of a detector's forward pass."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from mmdet.models.detectors import BaseDetector
from timm.layers import Mlp
from torch import nn

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.layers import Attention, Block, Extractor, Injector, SpatialPriorModule
from mmdet_atc.layers.selective import SelectiveModule
from mmdet_atc.merging import TokenClusters

from .timing import synchronize

#: Norms, residuals and whatever else no stage holds.
OTHER = 'other'
#: All stages, in the order of a forward pass.
STAGES = (
    'spatial prior',
    'patch embedding',
    'Injector',
    'attention',
    'received attention',
    'MLP',
    'token selection',
    'selective blocks',
    'Extractor',
    'clustering',
    'merge and back-project',
    'output maps',
    'neck',
    'RPN',
    'RoI heads',
    OTHER,
)

#: What is timed of the backbone's modules of a type: a method, and the stage that it is.
_BY_TYPE: tuple[tuple[type[nn.Module], str, str], ...] = (
    (SpatialPriorModule, 'forward', 'spatial prior'),
    (Attention, 'forward', 'attention'),
    # The second pass over the attention of mergers that rank tokens by it.
    (Block, 'received_attention', 'received attention'),
    (Mlp, 'forward', 'MLP'),
    (SelectiveModule, 'forward', 'token selection'),
    # PyTorch may run its attention and MLP as one kernel.
    (nn.TransformerEncoderLayer, 'forward', 'selective blocks'),
    (Injector, 'forward', 'Injector'),
    (Extractor, 'forward', 'Extractor'),
)
_OF_THE_BACKBONE = (
    ('_patch_tokens', 'patch embedding'),
    ('_finest_output', 'output maps'),
    ('_coarser_outputs', 'output maps'),
)
_AFTER_THE_BACKBONE = (
    ('neck', 'forward', 'neck'),
    ('rpn_head', 'predict', 'RPN'),
    ('roi_head', 'forward', 'RoI heads'),
)


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
        for owner, name, stage in _targets(self._model):
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


def _targets(model: BaseDetector) -> Iterator[tuple[Any, str, str]]:
    """What is timed: an object, the name of its method, the stage."""
    backbone = model.backbone
    for module in backbone.modules():
        for kind, name, stage in _BY_TYPE:
            if isinstance(module, kind):
                yield module, name, stage
    for name, stage in _OF_THE_BACKBONE:
        yield backbone, name, stage
    if isinstance(backbone, ATCViTAdapter) and backbone.merger is not None:
        yield backbone.merger, 'assign', 'clustering'
        for name in ('merge', 'unmerge', 'merge_tokens'):
            yield TokenClusters, name, 'merge and back-project'
    for part, name, stage in _AFTER_THE_BACKBONE:
        if hasattr(model, part):
            yield getattr(model, part), name, stage
