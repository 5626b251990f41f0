"""One partition of the patches as a picture."""

from __future__ import annotations

import cv2
import numpy as np

_HATCHING = (np.array([70, 70, 70], dtype=np.uint8), np.array([110, 110, 110], dtype=np.uint8))
_STRIPE = 6
#: Outlines are black on clusters that are brighter than this (0 to 255), white on others.
_BRIGHT = 150


def draw_clusters(
    image: np.ndarray, labels: np.ndarray, patch_size: int = 16, cell: int | None = None
) -> np.ndarray:
    """Fill each cluster with its mean colour and outline it.

    Args:
        image (ndarray): RGB, ``(H, W, 3)`` uint8.
        labels (ndarray): Cluster of each patch, ``(h, w)`` int. What lies beyond the image is
            padding: hatched, and without a part in the means.
        patch_size (int): Side of a patch in pixels of the image. Default: 16.
        cell (int, optional): Side of a patch in pixels of the picture, at least 4; outlines stay
            sharp whatever it is. None is ``patch_size``. Default: None.

    Returns:
        ndarray: ``(h * cell, w * cell, 3)`` uint8. Outlines are one pixel wide for each 16 of
        ``cell``, at the right and lower sides of a cluster's patches.

    Raises:
        ValueError: If an argument has another shape or type, or the image does not fit the grid.
    """
    cell = _checked(image, labels, patch_size, cell)
    _, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    pixels = _enlarged(index, cell)
    picture = _hatching(*pixels.shape)
    height, width = _drawn_size(image, patch_size, cell)
    picture[:height, :width] = _mean_colours(image, index, patch_size)[pixels[:height, :width]]
    edge = _boundaries(pixels, max(1, round(cell / 16)))
    bright = picture[edge] @ np.array([0.299, 0.587, 0.114]) > _BRIGHT
    picture[edge] = np.where(bright, 0, 255).astype(np.uint8)[:, None]
    return picture


def draw_padded_image(
    image: np.ndarray, grid: tuple[int, int], patch_size: int = 16, cell: int | None = None
) -> np.ndarray:
    """The image as it lies in its patch grid, the padding hatched.

    Args:
        image (ndarray): RGB, ``(H, W, 3)`` uint8.
        grid (tuple[int, int]): Height and width of the patch grid.
        patch_size (int): As in :func:`draw_clusters`. Default: 16.
        cell (int, optional): As in :func:`draw_clusters`. Default: None.

    Returns:
        ndarray: ``(h * cell, w * cell, 3)`` uint8.

    Raises:
        ValueError: As :func:`draw_clusters`.
    """
    cell = _checked(image, np.zeros(grid, dtype=np.int64), patch_size, cell)
    picture = _hatching(grid[0] * cell, grid[1] * cell)
    height, width = _drawn_size(image, patch_size, cell)
    method = cv2.INTER_AREA if cell < patch_size else cv2.INTER_NEAREST
    picture[:height, :width] = cv2.resize(image, (width, height), interpolation=method)
    return picture


def _checked(image: np.ndarray, labels: np.ndarray, patch_size: int, cell: int | None) -> int:
    """The side of a drawn patch."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'image must be (H, W, 3) uint8, got {image.shape} {image.dtype}')
    if labels.ndim != 2 or labels.dtype.kind not in 'iu':
        raise ValueError(f'labels must be (h, w) integers, got {labels.shape} {labels.dtype}')
    height, width = image.shape[:2]
    if height > labels.shape[0] * patch_size or width > labels.shape[1] * patch_size:
        raise ValueError(
            f'an image of {height}x{width} pixels does not fit in a grid of '
            f'{labels.shape[0]}x{labels.shape[1]} patches of {patch_size} pixels'
        )
    cell = patch_size if cell is None else cell
    if cell < 4:
        raise ValueError(f'cell must be at least 4 pixels, got {cell!r}')
    return cell


def _enlarged(labels: np.ndarray, cell: int) -> np.ndarray:
    return labels.repeat(cell, axis=0).repeat(cell, axis=1)


def _drawn_size(image: np.ndarray, patch_size: int, cell: int) -> tuple[int, int]:
    height, width = (max(1, round(side * cell / patch_size)) for side in image.shape[:2])
    return height, width


def _mean_colours(image: np.ndarray, index: np.ndarray, patch_size: int) -> np.ndarray:
    """Mean of each cluster's pixels, ``(K, 3)`` uint8; 0 where all is padding."""
    height, width = image.shape[:2]
    clusters = _enlarged(index, patch_size)[:height, :width].reshape(-1)
    num_clusters = int(index.max()) + 1
    sizes = np.maximum(np.bincount(clusters, minlength=num_clusters), 1)
    means = [
        np.bincount(clusters, image[..., channel].reshape(-1), num_clusters) / sizes
        for channel in range(3)
    ]
    return np.rint(np.stack(means, axis=1)).astype(np.uint8)


def _hatching(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.where(((x + y) // _STRIPE % 2 == 0)[..., None], *_HATCHING)


def _boundaries(pixels: np.ndarray, width: int) -> np.ndarray:
    """Pixels that are followed by another cluster to the right or below, ``(H, W)`` bool."""
    edge = np.zeros(pixels.shape, dtype=bool)
    edge[:, :-width] |= pixels[:, :-width] != pixels[:, width:]
    edge[:-width] |= pixels[:-width] != pixels[width:]
    return edge
