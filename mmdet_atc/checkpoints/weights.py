"""Weights of a detector, all of them or an error."""

from __future__ import annotations

from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from .layouts import fit_state_dict, flat_state_dict
from .mismatch import Mismatch
from .safe import CheckpointError


def load_weights(model: nn.Module, source: str) -> None:
    """Load a checkpoint that fits the model.

    Random weights in some layer would still give clusters and times, so nothing may be left out.

    Args:
        model (nn.Module): A detector.
        source (str): File, URL or ``hf://ORG/REPO/FILE``.

    Raises:
        CheckpointError: If the checkpoint does not fit the model, or is none.
        FileNotFoundError: If there is no such file.
    """
    wanted = model.state_dict()
    state = flat_state_dict(CheckpointLoader.load_checkpoint(source, map_location='cpu'))
    fit_state_dict(state, wanted)
    mismatch = Mismatch.between(state, wanted)
    if mismatch:
        raise CheckpointError(
            f'{source} does not fit the model:\n{mismatch.explain(state, wanted)}'
        )
    model.load_state_dict(state, strict=False)
