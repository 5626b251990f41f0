"""Detectors to compare: a config and, after commas, values that override it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader

from mmdet_atc.checkpoints import fitted

from .private import parsed_value
from .run import load_config

#: The commas that are not within a list.
_BEFORE_KEY = re.compile(r',(?=[\w.]+=)')


@dataclass(frozen=True)
class Variant:
    """One detector of a comparison.

    Args:
        name (str): What it is called in tables.
        cfg (Config): Its config.
    """

    name: str
    cfg: Config

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``CONFIG[,KEY=VALUE…]``.

        For example ``configs/atc_….py,model.backbone.merging.backend=sklearn``.

        Args:
            text (str): Config as of :func:`load_config`, and values as for ``--cfg-options``, lists
                among them.

        Returns:
            Variant: Named after the file and the overriding values.

        Raises:
            FileNotFoundError, ValueError: As :func:`load_config`.
        """
        path, *options = _BEFORE_KEY.split(text)
        values = {}
        names = [Path(path).stem]
        for option in options:
            key, _, value = option.partition('=')
            values[key] = parsed_value(value)
            names.append(f'{key.rpartition(".")[2]}={value}')
        return cls(', '.join(names), load_config(path, values))

    @property
    def is_compiled(self) -> bool:
        """Whether the config asks for it: ``compile``, which mmengine's runner reads too."""
        return bool(self.cfg.get('compile', False))

    def build(self, device: torch.device, checkpoint: str | None = None) -> BaseDetector:
        """The detector in evaluation mode, with seeded random weights or a checkpoint's.

        Args:
            device (torch.device): Where to put it.
            checkpoint (str, optional): File or URL. Default: None.

        Returns:
            BaseDetector: The detector.

        Raises:
            CheckpointError: If the checkpoint does not fit, or is none.
        """
        init_default_scope('mmdet')
        model_cfg = self.cfg.model.copy()
        model_cfg.backbone.init_cfg = None
        torch.manual_seed(0)
        model = MODELS.build(model_cfg)
        if checkpoint is not None:
            # Random weights in some layer would still give clusters and times.
            loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
            state = fitted(loaded, model.state_dict(), checkpoint)
            model.load_state_dict(state, strict=False)
        return model.to(device).eval()
