"""Pictures of token clusters, as in figure 5 of the ATC paper."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_OUTLINE = np.array([255, 255, 255], dtype=np.uint8)
_PADDING = (np.array([70, 70, 70], dtype=np.uint8), np.array([110, 110, 110], dtype=np.uint8))
_MIN_TILE_WIDTH = 320
_MARGIN = 8


def draw_clusters(image: np.ndarray, labels: np.ndarray, patch_size: int = 16) -> np.ndarray:
    """Fill each cluster with its mean colour and outline it.

    Args:
        image (ndarray): RGB, ``(H, W, 3)`` uint8.
        labels (ndarray): Cluster of each patch, ``(h, w)`` int. Patches beyond the image are
            padding and shown hatched.
        patch_size (int): Side of a patch in pixels. Default: 16.

    Returns:
        ndarray: ``(h * patch_size, w * patch_size, 3)`` uint8.

    Raises:
        ValueError: If the image does not fit in the grid.
    """
    rows, cols = (side * patch_size for side in labels.shape)
    height, width = image.shape[:2]
    if height > rows or width > cols:
        raise ValueError(
            f'an image of {height}x{width} pixels does not fit in a grid of '
            f'{labels.shape[0]}x{labels.shape[1]} patches of {patch_size} pixels'
        )
    clusters = np.kron(labels, np.ones((patch_size, patch_size), dtype=labels.dtype))
    inside = clusters[:height, :width]
    _, index = np.unique(inside, return_inverse=True)
    index = index.reshape(-1)
    sizes = np.bincount(index)
    means = np.stack(
        [np.bincount(index, image[..., c].reshape(-1)) / sizes for c in range(3)], axis=1
    )
    y, x = np.mgrid[:rows, :cols]
    picture = np.where(((x + y) // 6 % 2 == 0)[..., None], *_PADDING)
    picture[:height, :width] = np.rint(means)[index].reshape(height, width, 3)
    picture[_boundaries(clusters)] = _OUTLINE
    return picture


def draw_cluster_stages(
    image: np.ndarray,
    stages: Sequence[np.ndarray],
    titles: Sequence[str],
    patch_size: int = 16,
) -> np.ndarray:
    """The image and its clusters after each merge, side by side with titles.

    Args:
        image (ndarray): RGB, ``(H, W, 3)`` uint8.
        stages (Sequence[ndarray]): A label map ``(h, w)`` for each merge.
        titles (Sequence[str]): A title for each merge.
        patch_size (int): Side of a patch in pixels. Default: 16.

    Returns:
        ndarray: RGB picture, uint8.

    Raises:
        ValueError: If there is not one title per stage, or there is no stage.
    """
    if not stages or len(stages) != len(titles):
        raise ValueError(
            f'need one title per stage and a stage, got {len(titles)} and {len(stages)}'
        )
    tiles = [image, *(draw_clusters(image, labels, patch_size) for labels in stages)]
    width = max(tile.shape[1] for tile in tiles)
    # Small images are enlarged by a whole factor, so that titles fit and patches stay sharp.
    factor = -(-_MIN_TILE_WIDTH // width)
    names = ['image', *titles]
    titled = [_titled(tile, name, factor) for tile, name in zip(tiles, names, strict=True)]
    height = max(tile.shape[0] for tile in titled)
    row = []
    for tile in titled:
        padded = np.full((height, tile.shape[1] + _MARGIN, 3), 255, dtype=np.uint8)
        padded[: tile.shape[0], : tile.shape[1]] = tile
        row.append(padded)
    return np.concatenate(row, axis=1)[:, :-_MARGIN]


def _boundaries(clusters: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour is of another cluster, ``(H, W)`` bool."""
    edge = np.zeros(clusters.shape, dtype=bool)
    edge[:, :-1] |= clusters[:, :-1] != clusters[:, 1:]
    edge[:-1] |= clusters[:-1] != clusters[1:]
    return edge


def _titled(tile: np.ndarray, title: str, factor: int) -> np.ndarray:
    """A tile enlarged by a factor below a line of text that grows with it."""
    tile = tile.repeat(factor, axis=0).repeat(factor, axis=1)
    width = tile.shape[1]
    scale = max(0.55, width / 900)
    (text_width, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (width - 4) / text_width)
    line = round(50 * scale)
    out = np.full((tile.shape[0] + line, width, 3), 255, dtype=np.uint8)
    out[line:] = tile
    place, thickness = (2, round(0.7 * line)), max(1, round(scale))
    cv2.putText(
        out, title, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thickness, cv2.LINE_AA
    )
    return out
