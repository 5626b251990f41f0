"""A training step as the runner takes it, and a detector that is as before afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch import nn

#: What a config says of its optimizer; the precision is the comparison's, and every step counts.
_OPTIMIZER_KEYS = ('constructor', 'optimizer', 'paramwise_cfg', 'clip_grad')


@contextlib.contextmanager
def trained(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in training mode; its weights and buffers are restored afterwards."""
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        model.load_state_dict(saved)
        model.eval()


@contextlib.contextmanager
def training_step(
    model: BaseModel,
    optim_wrapper: Mapping[str, Any],
    autocast: Callable[[], contextlib.AbstractContextManager],
    scales_loss: bool,
) -> Iterator[Callable[[dict], None]]:
    """Inside, a function that takes one step: forward, backward, clipping, optimizer.

    Args:
        model (BaseModel): The detector, which is :func:`trained`.
        optim_wrapper (Mapping): A config's ``optim_wrapper``.
        autocast (Callable): Makes the context of the forward pass.
        scales_loss (bool): Whether the loss is scaled, as the config says or dynamically; needs
            an accelerator.

    Yields:
        Callable: Takes what the data preprocessor returned.
    """
    wrapper = build_optim_wrapper(model, _in_precision(optim_wrapper, scales_loss))

    def step(inputs: dict) -> None:
        with autocast():
            losses = model(**inputs, mode='loss')
            total, _ = model.parse_losses(losses)
        wrapper.update_params(total)

    with trained(model):
        yield step


def _in_precision(optim_wrapper: Mapping[str, Any], scales_loss: bool) -> dict[str, Any]:
    cfg = {key: optim_wrapper[key] for key in _OPTIMIZER_KEYS if key in optim_wrapper}
    if not scales_loss:
        return dict(cfg, type='OptimWrapper')
    loss_scale = optim_wrapper.get('loss_scale', 'dynamic')
    return dict(cfg, type='AmpOptimWrapper', loss_scale=loss_scale)
