"""Token plans: how many clusters each block of a ViT leaves.

A plan is called with the depth and the number of patches and gives a number of clusters, or None,
for each block. It takes the place of the merger's own ``keep_rate``.

- :func:`keep_rate_plan`: some blocks keep a share, of the current tokens (detection) or of the
  initial ones (classification, Haurum et al., ECCV 2024, section 4.1);
- :func:`constant_plan`, :func:`linear_plan`: every block removes a number of tokens (equations 4
  and 5; ToMe, Bolya et al., ICLR 2023).

In a config a plan is its function's name and arguments, ``dict(type='constant_plan', t=100)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mmdet_atc.arguments import check_choice, check_counts, check_increasing, check_shares

from .base import TokenMerger
from .bipartite import BipartiteMerging
from .evit import EViTMerging


class TokenPlan(Protocol):
    """How many clusters each block leaves; the functions of this module make them."""

    def merge_blocks(self, depth: int) -> tuple[int, ...]:
        """The blocks that merge in a ViT of ``depth`` blocks, 0-based and rising.

        Raises:
            ValueError: If the plan names a block that the ViT does not have.
        """

    def __call__(
        self, depth: int, num_patches: int, merger: TokenMerger | None = None
    ) -> tuple[int | None, ...]:
        """The number of patch clusters that each block leaves.

        Args:
            depth (int): Number of blocks of the ViT.
            num_patches (int): Number of patches; class token and registers are not counted.
            merger (TokenMerger, optional): What merges: ToMe removes at most half of the tokens.
                None is one without such a limit. Default: None.

        Returns:
            tuple[int | None]: One entry per block, None where a block does not merge.

        Raises:
            ValueError: If the plan names a block that the ViT does not have.
        """


def build_plan(plan: TokenPlan | dict) -> TokenPlan:
    """The plan of a config; a plan is itself.

    Raises:
        ValueError: If ``plan`` is neither, or an argument of it is out of range.
    """
    if not isinstance(plan, dict):
        if not callable(plan) or not hasattr(plan, 'merge_blocks'):
            raise ValueError(f'plan must be a token plan, see mmdet_atc.merging.plan, got {plan!r}')
        return plan
    makers = {maker.__name__: maker for maker in (keep_rate_plan, constant_plan, linear_plan)}
    arguments = dict(plan)
    maker = makers.get(str(arguments.pop('type', None)))
    if maker is None:
        raise ValueError(f"plan's type must be one of {sorted(makers)}, got {plan!r}")
    try:
        return maker(**arguments)
    except TypeError as error:
        raise ValueError(f'plan={plan!r} is no token plan: {error}') from error


def tokens_left(
    plan: TokenPlan | None, depth: int, num_patches: int, merger: TokenMerger | None
) -> list[int]:
    """How many patch tokens each block hands on.

    Args:
        plan (TokenPlan, optional): None merges nothing.
        depth (int): Number of blocks of the ViT.
        num_patches (int): Number of patches.
        merger (TokenMerger, optional): What merges: EViT leaves its fused token beside the clusters
            of the plan.

    Returns:
        list[int]: One number per block, class token and registers not counted.
    """
    tokens, left = [], num_patches
    for count in plan(depth, num_patches, merger) if plan else (None,) * depth:
        if count is not None and count != left:
            left = count + isinstance(merger, EViTMerging)
        tokens.append(left)
    return tokens


def keep_rate_plan(
    keep_rate: float | Sequence[float], blocks: Sequence[int] = (3, 6, 9), of: str = 'current'
) -> TokenPlan:
    """Some blocks keep a share of the tokens.

    Args:
        keep_rate (float | Sequence[float]): In (0, 1]; one for all blocks or one per block.
        blocks (Sequence[int]): 0-based blocks that merge; the default are the paper's blocks 4, 7
            and 10. Default: (3, 6, 9).
        of (str): ``'current'``: each block keeps ``int(r * T)`` of its T tokens, at least one.
            ``'initial'``: with N patches at first, block number s of these keeps
            ``int(N * r ** (s + 1))``, or ``int(N * r_s)`` where rates are given per block, as the
            authors' classification code; where that is 0 the block does not merge.
            Default: ``'current'``.

    Raises:
        ValueError: If an argument is out of range; the message names it.

    Examples:
        >>> keep_rate_plan(0.7, blocks=(0, 1, 2), of='current')(depth=4, num_patches=196)
        (137, 95, 66, None)
        >>> keep_rate_plan(0.7, blocks=(0, 1, 2), of='initial')(depth=4, num_patches=196)
        (137, 96, 67, None)
    """
    check_choice(('current', 'initial'), of=of)
    check_increasing('block', None, blocks=blocks)
    per_block = isinstance(keep_rate, Sequence)
    rates = tuple(keep_rate) if isinstance(keep_rate, Sequence) else (keep_rate,) * len(blocks)
    if len(rates) != len(blocks):
        raise ValueError(
            f'keep_rate must be one float or one per block ({len(blocks)}), got {keep_rate!r}'
        )
    for rate in rates:
        check_shares(keep_rate=rate)
    if of == 'current':
        return _CurrentShares(rates, tuple(blocks))
    shares = rates if per_block else tuple(rate ** (s + 1) for s, rate in enumerate(rates))
    return _InitialShares(shares, tuple(blocks))


def constant_plan(t: int, count: str = 'exact') -> TokenPlan:
    """Every block removes t tokens (paper, eq. 4).

    Args:
        t (int): Tokens that are merged away per block; 0 merges nothing.
        count (str): ``'exact'``: t go, as far as there are so many. ``'released'``: t - 1 go,
            which is what the authors' released code does (it counts the class token among the
            tokens of which clusters remain, but clusters patches only); ToMe's code removes t.
            Default: ``'exact'``.

    Raises:
        ValueError: If ``t`` is no whole number of at least 0 or ``count`` is another word.
    """
    return _Schedule(*_checked_schedule(t, count), linear=False)


def linear_plan(t: int, count: str = 'exact') -> TokenPlan:
    """``int(2 t - 2 t l / (L - 1))`` tokens go in block l of L: none in the last (paper, eq. 5).

    Args:
        t (int): About the mean number of tokens that go per block.
        count (str): As in :func:`constant_plan`. Default: ``'exact'``.

    Raises:
        ValueError: As :func:`constant_plan`.

    Examples:
        >>> linear_plan(16)(depth=12, num_patches=196)
        (164, 135, 109, 86, 66, 49, 35, 24, 16, 11, 9, None)
    """
    return _Schedule(*_checked_schedule(t, count), linear=True)


@dataclass(frozen=True)
class _CurrentShares:
    rates: tuple[float, ...]
    blocks: tuple[int, ...]

    def merge_blocks(self, depth: int) -> tuple[int, ...]:
        return _within(self.blocks, depth)

    def __call__(
        self, depth: int, num_patches: int, merger: TokenMerger | None = None
    ) -> tuple[int | None, ...]:
        clusters: list[int | None] = [None] * depth
        left = num_patches
        for block, rate in zip(self.merge_blocks(depth), self.rates, strict=True):
            left = merger.num_clusters(left, rate) if merger else max(1, int(rate * left))
            clusters[block] = left
        return tuple(clusters)


@dataclass(frozen=True)
class _InitialShares:
    shares: tuple[float, ...]
    blocks: tuple[int, ...]
    #: The authors' classification code keeps sizes for proportional attention only.
    drops_sizes: bool = True

    def merge_blocks(self, depth: int) -> tuple[int, ...]:
        return _within(self.blocks, depth)

    def __call__(
        self, depth: int, num_patches: int, merger: TokenMerger | None = None
    ) -> tuple[int | None, ...]:
        clusters: list[int | None] = [None] * depth
        left = wanted = num_patches
        for block, share in zip(self.merge_blocks(depth), self.shares, strict=True):
            target = min(int(num_patches * share), wanted)
            if target == 0:
                continue
            # Where a merger could not remove all of an earlier block's, these are not made up for.
            left = max(left - (wanted - target), _fewest(left, merger))
            wanted = target
            clusters[block] = left
        return tuple(clusters)


@dataclass(frozen=True)
class _Schedule:
    t: int
    count: str
    linear: bool

    def removed(self, depth: int) -> tuple[int, ...]:
        """How many tokens go in each block, while there are so many."""
        if not self.linear or depth == 1:
            return (self.t,) * depth
        step = -2 * self.t / (depth - 1)
        return tuple(int(2 * self.t + step * block) for block in range(depth))

    def merge_blocks(self, depth: int) -> tuple[int, ...]:
        return tuple(block for block, removed in enumerate(self.removed(depth)) if removed > 0)

    def __call__(
        self, depth: int, num_patches: int, merger: TokenMerger | None = None
    ) -> tuple[int | None, ...]:
        clusters: list[int | None] = [None] * depth
        left = num_patches
        one_less = self.count == 'released' and not isinstance(merger, BipartiteMerging)
        for block, removed in enumerate(self.removed(depth)):
            if removed == 0:
                continue
            goes = min(removed, left) - 1 if one_less else removed
            clusters[block] = left = max(left - goes, _fewest(left, merger))
        return tuple(clusters)


def _fewest(num_tokens: int, merger: TokenMerger | None) -> int:
    """The least number of clusters that ``merger`` can make."""
    return 1 if merger is None else merger.num_clusters(num_tokens, 1 / num_tokens)


def _within(blocks: tuple[int, ...], depth: int) -> tuple[int, ...]:
    if blocks[-1] >= depth:
        raise ValueError(
            f'blocks must be in 0..{depth - 1} for a ViT of {depth} blocks, got {blocks}'
        )
    return blocks


def _checked_schedule(t: int, count: str) -> tuple[int, str]:
    check_counts(0, t=t)
    check_choice(('exact', 'released'), count=count)
    return t, count
