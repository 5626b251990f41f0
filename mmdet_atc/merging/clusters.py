"""The state that token merging threads through a backbone: which patch is in which cluster."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .segments import segment_mean, take_rows


@dataclass(frozen=True)
class TokenClusters:
    """A partition of the patch grid, composed over all merges so far.

    A cluster of clusters is one cluster of patches, so one label map and the cluster sizes are
    the whole state: back-projection is one gather, and re-merging the full grid one segment mean,
    equal to the nested size-weighted means of the stages.

    Args:
        labels (Tensor): Cluster of each patch, ``(B, N)`` int64.
        sizes (Tensor): Number of patches of each cluster, ``(B, K)`` float32, all at least 1.
            With ``weights``, the sum of its patches' weights.
        weights (Tensor, optional): How much each patch counts in its cluster's mean, ``(B, N)``;
            pruned patches have 0. None is one each. Default: None.
    """

    labels: Tensor
    sizes: Tensor
    weights: Tensor | None = None

    @classmethod
    def identity(cls, batch: int, num_patches: int, device: torch.device) -> TokenClusters:
        """Every patch is its own cluster."""
        labels = torch.arange(num_patches, device=device).expand(batch, -1)
        return cls(labels, torch.ones(batch, num_patches, device=device))

    @property
    def num_clusters(self) -> int:
        return self.sizes.shape[1]

    def merge(self, patches: Tensor) -> Tensor:
        """Mean of each cluster's patches: ``(B, N, C)`` to ``(B, K, C)``."""
        return segment_mean(patches, self.labels, self.num_clusters, self.weights)[0]

    def unmerge(self, tokens: Tensor) -> Tensor:
        """Back-project: give each patch its cluster's token, ``(B, K, C)`` to ``(B, N, C)``."""
        return take_rows(tokens, self.labels)

    def merge_tokens(
        self, tokens: Tensor, labels: Tensor, num_clusters: int, weights: Tensor | None = None
    ) -> tuple[Tensor, TokenClusters]:
        """Merge clusters further (paper eq. 1: the size-weighted mean).

        Args:
            tokens (Tensor): One token per current cluster, ``(B, K, C)``.
            labels (Tensor): New cluster of each current cluster, ``(B, K)`` int64, in
                ``0 .. num_clusters - 1``, each at least once.
            num_clusters (int): Number of new clusters.
            weights (Tensor, optional): How much each current cluster counts in the mean, times
                its size, ``(B, K)``: 0 prunes it. None is one each. Default: None.

        Returns:
            tuple: The merged tokens ``(B, num_clusters, C)`` and the composed clusters.
        """
        counts = None if weights is None else weights.to(self.sizes.dtype)
        masses = self.sizes if counts is None else self.sizes * counts
        merged, sizes = segment_mean(tokens, labels, num_clusters, masses)
        patch_weights = self.weights
        if counts is not None:
            inherited = counts.gather(1, self.labels)
            patch_weights = inherited if patch_weights is None else patch_weights * inherited
        return merged, TokenClusters(labels.gather(1, self.labels), sizes, patch_weights)
