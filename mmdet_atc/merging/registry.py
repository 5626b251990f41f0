"""The registry in which ``merging=dict(type=...)`` is looked up: mmengine's where installed."""

from __future__ import annotations

import importlib.util

from .base import TokenMerger


class _Registry:
    """What mergers need of mmengine's Registry, where that is not installed."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}

    def register_module(self):
        def register(cls: type) -> type:
            self._classes[cls.__name__] = cls
            return cls

        return register

    def get(self, name: str) -> type | None:
        return self._classes.get(name)

    def build(self, cfg: dict) -> TokenMerger:
        arguments = dict(cfg)
        arguments.pop('_scope_', None)
        name = arguments.pop('type')
        cls = self.get(name) if isinstance(name, str) else name
        if cls is None:
            raise KeyError(f'{name} is not in the token merger registry: {sorted(self._classes)}')
        return cls(**arguments)


if importlib.util.find_spec('mmengine') is None:
    TOKEN_MERGERS = _Registry()
else:
    from mmengine.registry import Registry

    TOKEN_MERGERS = Registry('token merger', scope='mmdet', locations=['mmdet_atc.merging'])


def build_merger(merging: dict | TokenMerger, *, planned: bool = False) -> TokenMerger:
    """The token merger of a config; ``type`` may be left out for ``AgglomerativeMerging``.

    Args:
        merging (dict | TokenMerger): Config, or a merger as it is.
        planned (bool): Whether a token plan rules, beside which ``keep_rate`` is a mistake.
            Default: False.

    Returns:
        TokenMerger: The merger.

    Raises:
        ValueError: If ``merging`` is no config of a token merger, or has a keep rate beside a plan.
    """
    if isinstance(merging, TokenMerger):
        return merging
    if not isinstance(merging, dict):
        raise ValueError(f'merging must be the config of a token merger, got {merging!r}')
    if planned and 'keep_rate' in merging:
        raise ValueError(
            f'keep_rate={merging["keep_rate"]!r} in merging says nothing beside a plan: '
            'leave it out and give it to keep_rate_plan'
        )
    try:
        # Mergers are the same in a config of MMSegmentation.
        return TOKEN_MERGERS.build({'type': 'AgglomerativeMerging', '_scope_': 'mmdet', **merging})
    except (KeyError, TypeError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise ValueError(f'merging={merging!r} is no token merger: {reason}') from error
