"""Clusters of a latent of diffusers' UNets over the picture that was made of it."""

from __future__ import annotations

import numpy as np

from mmdet_atc.merging import TokenClusters

from .clusters import draw_clusters


def draw_latent_clusters(
    image: np.ndarray, clusters: TokenClusters, index: int = 0, cell: int | None = None
) -> np.ndarray:
    """Fill each cluster of a block's tokens with the mean colour of its part of the picture.

    Args:
        image (ndarray): The picture, RGB, ``(H, W, 3)`` uint8.
        clusters (TokenClusters): One of ``unet.token_clusters``.
        index (int): Which of the batch; of a pipeline's two guidance halves the second has the
            prompt. Default: 0.
        cell (int, optional): Side of a token in pixels, at least 4. None is its side in the
            picture. Default: None.

    Returns:
        ndarray: As :func:`draw_clusters`.

    Raises:
        ValueError: If the tokens are no grid of squares over the picture.
    """
    labels = clusters.labels[index].cpu().numpy()
    side = max(1, round((image.shape[0] * image.shape[1] / labels.size) ** 0.5))
    grid = -(-image.shape[0] // side), -(-image.shape[1] // side)
    if grid[0] * grid[1] != labels.size:
        raise ValueError(
            f'{labels.size} tokens are no grid of squares over a picture of '
            f'{image.shape[0]}x{image.shape[1]} pixels'
        )
    return draw_clusters(image, labels.reshape(grid), side, cell)
