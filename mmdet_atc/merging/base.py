"""What every token merger shares: keep rates and the number of clusters of a stage."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from mmdet_atc.arguments import check_bools


class TokenMerger(ABC):
    """Assigns the tokens of a Transformer block to clusters; it has no learned parameters.

    A subclass implements :meth:`assign` and registers itself in ``TOKEN_MERGERS``.

    Args:
        keep_rate (float | Sequence[float]): Share of the current tokens that stays, in (0, 1];
            one for all merge blocks or one per merge block.
        padding_aware (bool): Whether padding is clustered apart and does not count in the
            picture's share, see :mod:`mmdet_atc.merging.padding`. Default: False, as the paper.

    Raises:
        ValueError: If a keep rate is not in (0, 1] or ``padding_aware`` is no bool.
    """

    def __init__(self, keep_rate: float | Sequence[float], padding_aware: bool = False) -> None:
        check_bools(padding_aware=padding_aware)
        self.padding_aware = padding_aware
        self._per_stage = isinstance(keep_rate, Sequence)
        rates = tuple(keep_rate) if isinstance(keep_rate, Sequence) else (keep_rate,)
        for rate in rates:
            is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
            if not is_number or not 0 < rate <= 1:
                raise ValueError(f'keep_rate must be in (0, 1], got {rate!r} in {keep_rate!r}')
        if not rates:
            raise ValueError('keep_rate must not be an empty sequence')
        self._rates: tuple[float, ...] = rates

    def keep_rates(self, num_stages: int) -> tuple[float, ...]:
        """The keep rate of each of ``num_stages`` merge blocks.

        Raises:
            ValueError: If keep rates were given per merge block and their number differs.
        """
        if not self._per_stage:
            return self._rates * num_stages
        if len(self._rates) != num_stages:
            raise ValueError(
                f'keep_rate must be one float or one per merge block ({num_stages}), '
                f'got {len(self._rates)}: {self._rates}'
            )
        return self._rates

    def num_clusters(self, num_tokens: int, keep_rate: float) -> int:
        """``int(keep_rate * num_tokens)``, but at least one cluster."""
        return max(1, math.floor(keep_rate * num_tokens))

    @abstractmethod
    def assign(self, keys: Tensor, num_clusters: int) -> Tensor:
        """Assign each token to a cluster.

        Args:
            keys (Tensor): The attention keys averaged over heads, ``(B, T, D)``, any float dtype.
            num_clusters (int): How many clusters to make of the T tokens, from
                :meth:`num_clusters`.

        Returns:
            Tensor: ``(B, T)`` int64, every value of ``0 .. num_clusters - 1`` at least once.
        """


class AttentionTokenMerger(TokenMerger):
    """A merger that also sees how much attention each token received in the merge block.

    The ViT of a detector has no class token, so the attention received from all tokens takes the
    place of the class attention that classifiers rank tokens by. The attention kernels do not
    return it: a merger that asks for it costs the block a second pass over its attention.
    """

    @abstractmethod
    def assign(self, keys: Tensor, num_clusters: int, attention: Tensor | None = None) -> Tensor:
        """As :meth:`TokenMerger.assign`, by keys and attention.

        Args:
            keys (Tensor): The attention keys averaged over heads, ``(B, T, D)``, any float dtype.
            num_clusters (int): How many clusters to make of the T tokens.
            attention (Tensor): Mean attention that each token received, over heads and queries,
                ``(B, T)``, as ``Attention.received`` gives it.

        Returns:
            Tensor: ``(B, T)`` int64, every value of ``0 .. num_clusters - 1`` at least once.

        Raises:
            ValueError: If ``attention`` is None.
        """

    def weights(self, labels: Tensor, num_clusters: int, attention: Tensor) -> Tensor | None:
        """How much each token counts in the mean of its cluster, times its size.

        Args:
            labels (Tensor): What :meth:`assign` returned, ``(B, T)``.
            num_clusters (int): Number of clusters.
            attention (Tensor): What :meth:`assign` was given, ``(B, T)``.

        Returns:
            Tensor, optional: ``(B, T)``, not all zero in a cluster; None for one each.
        """
        return None

    def _checked(self, attention: Tensor | None) -> Tensor:
        if attention is None:
            raise ValueError(
                f'{type(self).__name__}.assign needs attention: the mean attention that each '
                'token received, (B, T); see Attention.received'
            )
        return attention
