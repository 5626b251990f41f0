"""A checkpoint fits the model, or loading it stops."""

from __future__ import annotations

import ast
import re

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_atc.arguments import check_bools
from mmdet_atc.backbones import ViTAdapter
from mmdet_atc.checkpoints import CheckpointError, check_fit, fit_state_dict, flat_state_dict

from ..private import checkpoint_of, starts_training, unwrapped

#: Layers of heads that have outputs for each class: ``fc_cls``, ``retina_cls``, ``atss_cls``,
#: ``cls_branches`` (DETR), ``cls_embed`` (Mask2Former), ``conv_seg`` (MMSegmentation) ...
_PER_CLASS = re.compile(r'(^|[._])(cls|fc_reg|conv_logits|conv_seg|label_embedding)[._]')
_SELECTS = 'backbone.selective_modules.'
_OFF = '--cfg-options default_hooks.checkpoint_fit.strict=False'
_NEW = '--cfg-options default_hooks.checkpoint_fit.new_classes=True'


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Reads old layouts of checkpoints and refuses those that do not fit the model.

    MMEngine loads what fits and only warns of the rest, so that a wrong checkpoint becomes a bad
    AP. With this hook, whatever the runner loads (``load_from``, ``resume``, the checkpoint of
    ``tools/test.py``) is unwrapped, its position embedding is resized to the model's grid, and
    loading stops at a difference that matters. A classifier's leftovers are dropped silently.

    Args:
        strict (bool): Whether a difference is an error rather than a warning. Default: True.
        new_classes (bool): Whether training may start from a file with another number of classes.
            The layers that depend on it then keep their random weights. Default: False.

    Raises:
        ValueError: If an argument is no bool.
    """

    # Before EMAHook, which copies the weights.
    priority = 'VERY_HIGH'

    def __init__(self, strict: bool = True, new_classes: bool = False) -> None:
        check_bools(strict=strict, new_classes=new_classes)
        self.strict = strict
        self.new_classes = new_classes

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put a state dict that fits into ``checkpoint``.

        Raises:
            CheckpointError: If the checkpoint does not fit the model and ``strict``.
        """
        model = unwrapped(runner)
        wanted = model.state_dict()
        state = fit_state_dict(flat_state_dict(checkpoint), wanted)
        checkpoint['state_dict'] = state
        is_start = starts_training(runner)
        if self.new_classes and is_start:
            left_out = _drop_other_classes(state, wanted)
            wanted = {name: value for name, value in wanted.items() if name not in left_out}
            if left_out:
                runner.logger.info(f'Random weights, for new classes: {", ".join(left_out)}')
        if is_start and not any(_SELECTS in name for name in state):
            # SViT starts from a dense model, which selects nothing.
            wanted = {name: value for name, value in wanted.items() if _SELECTS not in name}
        source = checkpoint_of(runner)
        try:
            check_fit(state, wanted, source)
            _check_windows(model, checkpoint, source)
        except CheckpointError as error:
            if self.strict:
                advice = f'To load what fits all the same: {_OFF}'
                if is_start and _drop_other_classes(state, wanted):
                    advice = f'To train on other classes: {_NEW}. {advice}'
                raise CheckpointError(f'{error}. {advice}') from None
            runner.logger.warning(str(error))


def _drop_other_classes(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """Take the layers for another number of classes out of ``state``; returns their names."""
    names = [
        name
        for name in wanted
        if name in state
        and state[name].shape[:1] != wanted[name].shape[:1]
        and state[name].shape[1:] == wanted[name].shape[1:]
        and _PER_CLASS.search(name)
    ]
    for name in names:
        del state[name]
    return names


def _check_windows(model: nn.Module, checkpoint: dict, source: str) -> None:
    """Raise where the file was trained with another attention than the model's.

    Windowed and global attention have the same tensors, so only the config in the file tells.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, ViTAdapter):
        return
    here = tuple(bool(size) for size in backbone.window_sizes)
    trained = _recorded_windows(checkpoint, len(here))
    if trained is not None and trained != here:
        raise CheckpointError(
            f'{source} does not fit the model:\n'
            f'  attention: {_described(trained)} in the file, {_described(here)} here\n'
            'Hint: vit_adapter_*_window_3x are the windowed configs, all others are global'
        )


def _recorded_windows(checkpoint: dict, depth: int) -> tuple[bool, ...] | None:
    """Which blocks attend in windows, by the config that MMEngine and MMCV 1.x store as text."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict):
        return None
    text = str(meta.get('cfg') or meta.get('config') or '')
    written = re.search(r"window_attn'?\s*[=:]\s*(\[[^\]]*\]|True|False)", text)
    if written is None:
        # Off by default in this package and in the official ViT-Adapter.
        return (False,) * depth if 'ViTAdapter' in text else None
    value = ast.literal_eval(written[1])
    pattern = value if isinstance(value, list) else [value]
    if not pattern or depth % len(pattern):
        return None
    return tuple(map(bool, pattern)) * (depth // len(pattern))


def _described(windows: tuple[bool, ...]) -> str:
    if not any(windows):
        return 'global'
    return 'windowed in blocks ' + ', '.join(str(i) for i, on in enumerate(windows) if on)
