"""Merging that knows which tokens are padding.

The paper clusters padding together with the picture, so how many clusters a picture gets depends
on the padding that its batch needs. In a backbone with ``padding_aware=True`` the picture keeps its
own share of clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import TokenMerger
    from .clusters import TokenClusters


def padded_patches(
    valid_sizes: Sequence[tuple[int, int]],
    grid: tuple[int, int],
    patch_size: int,
    device: torch.device,
) -> Tensor | None:
    """Which patches hold nothing but padding, below and on the right of the pictures.

    Args:
        valid_sizes (Sequence[tuple[int, int]]): Height and width in pixels of each picture.
        grid (tuple[int, int]): Height and width of the patch grid.
        patch_size (int): Side of a patch in pixels.
        device (torch.device): Where to.

    Returns:
        Tensor, optional: ``(B, N)`` bool in the patches' row-major order; None if no patch is.

    Raises:
        ValueError: If a picture is empty or larger than the grid.
    """
    sizes = [(int(height), int(width)) for height, width, *_ in valid_sizes]
    limits = tuple(side * patch_size for side in grid)
    for size in sizes:
        if not all(0 < side <= limit for side, limit in zip(size, limits, strict=True)):
            raise ValueError(
                f'valid_sizes must be heights and widths in pixels within {limits}, got {size}'
            )
    used = [tuple(-(-side // patch_size) for side in size) for size in sizes]
    if all(each == grid for each in used):
        return None
    rows, cols = torch.tensor(used, device=device).unbind(1)
    below = torch.arange(grid[0], device=device) >= rows[:, None]
    beside = torch.arange(grid[1], device=device) >= cols[:, None]
    return (below[:, :, None] | beside[:, None, :]).flatten(1)


def padded_tokens(clusters: TokenClusters, padding: Tensor) -> Tensor:
    """Which tokens are made of padding alone: ``(B, N)`` bool of patches to ``(B, T)``."""
    return clusters.merge(padding.float().unsqueeze(-1)).squeeze(-1) == 1


def clusters_of_pictures(padding: Tensor, num_clusters: int, kept: Sequence[int]) -> list[int]:
    """How many of an image's clusters its picture gets: what it would get alone.

    But all of them where that leaves no cluster for the padding, or more than it has tokens.

    Args:
        padding (Tensor): ``(B, T)`` bool.
        num_clusters (int): How many clusters an image has in all.
        kept (Sequence[int]): How many each image's picture would get alone.
    """
    num_tokens = padding.shape[1]
    return [
        own if 0 < num_clusters - own <= num_padded <= num_tokens - own else num_clusters
        for num_padded, own in zip(padding.sum(1).tolist(), kept, strict=True)
    ]


def assign_beside_padding(
    merger: TokenMerger,
    keys: Tensor,
    num_clusters: int,
    padding: Tensor,
    kept: Sequence[int],
    attention: Tensor | None = None,
) -> Tensor:
    """Cluster the tokens of the picture and of the padding apart.

    The picture gets :func:`clusters_of_pictures`, its labels come first; the rest goes to the
    padding, in runs of neighbouring tokens. Where nothing is left both are clustered together.

    Args:
        merger (TokenMerger): Clusters the picture's tokens.
        keys (Tensor): ``(B, T, D)``, any float dtype.
        num_clusters (int): How many clusters an image has in all.
        padding (Tensor): ``(B, T)`` bool.
        kept (Sequence[int]): How many of them each image's picture would get alone.
        attention (Tensor, optional): ``(B, T)``, for mergers that need it. Default: None.

    Returns:
        Tensor: Labels, ``(B, T)`` int64.
    """
    labels = torch.empty(padding.shape, dtype=torch.int64, device=keys.device)
    for image, own in enumerate(clusters_of_pictures(padding, num_clusters, kept)):
        padded = padding[image] & (own < num_clusters)
        chosen = ~padded
        seen = None if attention is None else attention[image, chosen][None]
        labels[image, chosen] = merger._labels(keys[image, chosen][None], own, seen)[0]
        runs = padded.cumsum(0)[padded] - 1
        labels[image, padded] = own + runs * (num_clusters - own) // max(1, len(runs))
    return labels
