"""Which of a ViT's blocks do what, checked: windows, interactions, merges."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet_atc.arguments import check_counts


def windows_per_block(
    window_attn: bool | Sequence[bool], window_size: int | Sequence[int | None], depth: int
) -> tuple[int | None, ...]:
    """Window side in patches of each block, None where attention is global.

    Raises:
        ValueError: If there is not one value, or one per block, or a size is no positive number.
    """
    is_list = isinstance(window_attn, Sequence) and all(isinstance(w, bool) for w in window_attn)
    if not isinstance(window_attn, bool) and not is_list:
        raise ValueError(f'window_attn must be one bool or one per block, got {window_attn!r}')
    windowed = [window_attn] * depth if isinstance(window_attn, bool) else list(window_attn)
    sizes = (
        list(window_size)
        if isinstance(window_size, Sequence) and not isinstance(window_size, str)
        else [window_size] * depth
    )
    for name, values in (('window_attn', windowed), ('window_size', sizes)):
        if len(values) != depth:
            raise ValueError(
                f'{name} must be one value or one per block ({depth}), got {len(values)}: {values}'
            )
    for use, size in zip(windowed, sizes, strict=True):
        if use or size is not None:
            check_counts(window_size=size)
    return tuple(size if use else None for use, size in zip(windowed, sizes, strict=True))


def groups_of_blocks(
    interaction_indexes: Sequence[Sequence[int]] | None, depth: int
) -> tuple[tuple[int, int], ...]:
    """First and last block of each interaction; None is ViT-Adapter's four groups of three.

    Raises:
        ValueError: If they do not cover every block once, in order.
    """
    groups = (
        ((0, 2), (3, 5), (6, 8), (9, 11)) if interaction_indexes is None else interaction_indexes
    )
    try:
        covered = [index for group in groups for index in range(group[0], group[-1] + 1)]
    except (TypeError, IndexError):
        covered = []
    if covered != list(range(depth)):
        raise ValueError(
            f'interaction_indexes must cover blocks 0..{depth - 1} once and in order, '
            f'got {groups!r}'
        )
    return tuple((group[0], group[-1]) for group in groups)
