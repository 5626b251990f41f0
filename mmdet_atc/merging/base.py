"""What every token merger shares: keep rates, the number of clusters, and the merge itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from mmdet_atc.arguments import check_shares

from .clusters import TokenClusters
from .padding import assign_beside_padding, padded_tokens


class TokenMerger(ABC):
    """Merges the tokens of a Transformer block; it has no learned parameters.

    A subclass implements :meth:`assign` and registers itself in ``TOKEN_MERGERS``.

    Args:
        keep_rate (float | Sequence[float]): Share of the current tokens that stays, in (0, 1];
            one for all merge blocks or one per merge block. Default: 0.5.

    Raises:
        ValueError: If a keep rate is not in (0, 1].
    """

    #: Whether :meth:`merge` is to be given the attention that each token received.
    needs_attention = False

    def __init__(self, keep_rate: float | Sequence[float] = 0.5) -> None:
        self._per_stage = isinstance(keep_rate, Sequence)
        rates = tuple(keep_rate) if isinstance(keep_rate, Sequence) else (keep_rate,)
        for rate in rates:
            check_shares(keep_rate=rate)
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
        # trunc, which torch.export can write, unlike floor.
        return max(1, math.trunc(keep_rate * num_tokens))

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

    def merge(
        self,
        tokens: Tensor,
        keys: Tensor,
        clusters: TokenClusters,
        keep_rate: float,
        *,
        attention: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> tuple[Tensor, TokenClusters]:
        """Tokens in, fewer tokens out.

        Args:
            tokens (Tensor): ``(B, T, C)``, any float dtype.
            keys (Tensor): Their attention keys averaged over heads, ``(B, T, D)``.
            clusters (TokenClusters): Which of the N patches each token is made of.
            keep_rate (float): Share of the tokens that stays, in (0, 1].
            attention (Tensor, optional): Mean attention that each token received, ``(B, T)``;
                given where :attr:`needs_attention`. Default: None.
            padding (Tensor, optional): Which patches are padding, ``(B, N)`` bool: they are
                clustered apart, see :mod:`mmdet_atc.merging.padding`. Default: None.

        Returns:
            tuple: The merged tokens ``(B, K, C)`` and the clusters that they stand for.
        """
        num_tokens = tokens.shape[1]
        beside = None
        if padding is not None:
            padded = padded_tokens(clusters, padding)
            own = (num_tokens - padded.sum(1)).tolist()
            beside = padded, [self.num_clusters(count, keep_rate) for count in own]
        num_clusters = self.num_clusters(num_tokens, keep_rate)
        return self.merge_to(
            tokens, keys, clusters, num_clusters, attention=attention, beside=beside
        )

    def merge_to(
        self,
        tokens: Tensor,
        keys: Tensor,
        clusters: TokenClusters,
        num_clusters: int,
        *,
        attention: Tensor | None = None,
        beside: tuple[Tensor, Sequence[int]] | None = None,
        size_weighted: bool = True,
    ) -> tuple[Tensor, TokenClusters]:
        """:meth:`merge` to a number of clusters, for a plan.

        Args:
            tokens (Tensor): As in :meth:`merge`.
            keys (Tensor): As in :meth:`merge`.
            clusters (TokenClusters): As in :meth:`merge`.
            num_clusters (int): How many clusters to make of the T tokens; T merges nothing.
            attention (Tensor, optional): As in :meth:`merge`. Default: None.
            beside (tuple, optional): Which tokens are padding, ``(B, T)`` bool, and how many
                clusters each image's others get, see :func:`assign_beside_padding`.
                Default: None.
            size_weighted (bool): Whether a token counts by its size rather than as one.
                Default: True.

        Returns:
            tuple: As :meth:`merge`.
        """
        if num_clusters == tokens.shape[1]:
            return tokens, clusters
        if beside is None:
            labels = self._labels(keys.detach(), num_clusters, attention)
        else:
            labels = assign_beside_padding(self, keys.detach(), num_clusters, *beside, attention)
        weights = self.weights(labels, num_clusters, attention)
        if not size_weighted:
            weights = (1 if weights is None else weights) / clusters.sizes
        return clusters.merge_tokens(tokens, labels, num_clusters, weights)

    def weights(self, labels: Tensor, num_clusters: int, attention: Tensor | None) -> Tensor | None:
        """How much each token counts in the mean of its cluster, times its size.

        Args:
            labels (Tensor): What :meth:`assign` returned, ``(B, T)``.
            num_clusters (int): Number of clusters.
            attention (Tensor, optional): As in :meth:`merge`, ``(B, T)``.

        Returns:
            Tensor, optional: ``(B, T)``, not all zero in a cluster; None for one each.
        """
        return None

    def _labels(self, keys: Tensor, num_clusters: int, attention: Tensor | None) -> Tensor:
        return self.assign(keys, num_clusters)


class AttentionTokenMerger(TokenMerger):
    """A merger that also sees how much attention each token received in the merge block.

    The ViT of a detector has no class token, so the attention received from all tokens takes the
    place of the class attention that classifiers rank tokens by. The attention kernels do not
    return it: a merger that asks for it costs the block a second pass over its attention.
    """

    needs_attention = True

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

    def _labels(self, keys: Tensor, num_clusters: int, attention: Tensor | None) -> Tensor:
        return self.assign(keys, num_clusters, attention)

    def _checked(self, attention: Tensor | None) -> Tensor:
        if attention is None:
            raise ValueError(
                f'{type(self).__name__}.assign needs attention: the mean attention that each '
                'token received, (B, T); see Attention.received'
            )
        return attention
