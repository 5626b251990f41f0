"""Time per stage of a detector's forward pass."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

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

_BY_TYPE: dict[type[nn.Module], tuple[str, str]] = {
    SpatialPriorModule: ('forward', 'spatial prior'),
    Attention: ('forward', 'attention'),
    # The second pass over the attention of mergers that rank tokens by it.
    Block: ('received_attention', 'received attention'),
    Mlp: ('forward', 'MLP'),
    SelectiveModule: ('forward', 'token selection'),
    # PyTorch may run its attention and MLP as one kernel.
    nn.TransformerEncoderLayer: ('forward', 'selective blocks'),
    Injector: ('forward', 'Injector'),
    Extractor: ('forward', 'Extractor'),
}


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
        self._targets: list[tuple[Any, str, str]] = [
            (module, name, stage)
            for module in model.backbone.modules()
            for kind, (name, stage) in _BY_TYPE.items()
            if isinstance(module, kind)
        ]
        self._targets += [
            (model.backbone, '_patch_tokens', 'patch embedding'),
            (model.backbone, '_finest_output', 'output maps'),
            (model.backbone, '_coarser_outputs', 'output maps'),
        ]
        if isinstance(model.backbone, ATCViTAdapter) and model.backbone.merger is not None:
            self._targets.append((model.backbone.merger, 'assign', 'clustering'))
            self._targets += [
                (TokenClusters, name, 'merge and back-project')
                for name in ('merge', 'unmerge', 'merge_tokens')
            ]
        self._targets += [
            (getattr(model, part), name, stage)
            for part, name, stage in _AFTER_THE_BACKBONE
            if hasattr(model, part)
        ]
        self._running: list[str] = []
        self._originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> StageTimes:
        for owner, name, stage in self._targets:
            self._originals.append((owner, name, vars(owner).get(name)))
            setattr(owner, name, self._timed(getattr(owner, name), stage))
        synchronize(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_) -> None:
        synchronize(self.device)
        whole = time.perf_counter() - self._start
        self.seconds[OTHER] = whole - sum(self.seconds.values())
        for owner, name, original in self._originals:
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._originals.clear()

    def stage(self) -> str:
        """The stage that runs now."""
        return self._running[-1] if self._running else OTHER

    def _timed(self, function: Callable, stage: str) -> Callable:
        def run(*args, **kwargs):
            if self._running:  # a part of another stage
                return function(*args, **kwargs)
            synchronize(self.device)
            start = time.perf_counter()
            self._running.append(stage)
            result = function(*args, **kwargs)
            self._running.pop()
            synchronize(self.device)
            self.seconds[stage] += time.perf_counter() - start
            return result

        return run
