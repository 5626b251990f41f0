"""Which ways to merge stand side by side in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet_atc.merging import METHODS

#: One for all merges, or one for each.
KeepRate = float | Sequence[float]


def mergings_to_compare(
    own: Mapping[str, Any] | None,
    methods: Sequence[str] = (),
    keep_rates: Sequence[KeepRate] = (),
    selects: bool = False,
) -> dict[str, dict[str, Any] | None]:
    """The columns of a picture: every method at every keep rate.

    Args:
        own (Mapping, optional): ``merging`` of the model's config. Gives what is not asked for,
            and the other arguments where its own method is.
        methods (Sequence[str]): Names in :data:`mmdet_atc.merging.METHODS`; none is the
            model's own. Default: ``()``.
        keep_rates (Sequence): One for all merge blocks or one per merge block, each; none is the
            model's own. Default: ``()``.
        selects (bool): Whether the model is SViT's, whose own column is what it selects.
            Default: False.

    Returns:
        dict: Config of the merger by title, such as ``'ATC average, r = 0.5'``; None is what the
        model itself does.

    Raises:
        ValueError: If a method is unknown, or the config gives no method or keep rate to use.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f'methods must be of {", ".join(METHODS)}, got {", ".join(unknown)}')
    as_is = not methods and not keep_rates
    if selects and as_is:
        return {'SViT': None}
    if own is None and not (methods and keep_rates):
        raise ValueError(
            'the config merges no tokens: choose an atc_* or tome_* config, or give both methods '
            'and keep rates'
        )
    base = {'type': 'AgglomerativeMerging', **(own or {})}
    if base['type'] == 'AgglomerativeMerging':
        base.setdefault('linkage', 'average')
    if as_is:
        return {_with_rate(_title(base), base.get('keep_rate')): None}
    chosen = [(METHODS[name].title, METHODS[name].merging) for name in methods]
    chosen = chosen or [(_title(base), base)]
    rates: list[KeepRate | None] = [*keep_rates] or [base.get('keep_rate')]
    columns: dict[str, dict[str, Any] | None] = {}
    for title, merger in chosen:
        is_own = own is not None and all(base.get(key) == value for key, value in merger.items())
        for rate in rates:
            column = {**(base if is_own else {}), **merger}
            if rate is not None:
                column['keep_rate'] = rate
            columns[_with_rate(title, rate)] = column
    return columns


def _title(merging: Mapping[str, Any]) -> str:
    for method in METHODS.values():
        if all(merging.get(key) == value for key, value in method.merging.items()):
            return method.title
    kind = merging['type']
    return kind if isinstance(kind, str) else kind.__name__


def _with_rate(title: str, rate: KeepRate | None) -> str:
    if rate is None:
        return title
    rates = rate if isinstance(rate, Sequence) else [rate]
    return f'{title}, r = {", ".join(f"{each:g}" for each in rates)}'
