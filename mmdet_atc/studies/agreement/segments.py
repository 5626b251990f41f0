"""From an image's ground-truth masks to one segment per pixel, and to pixels per patch.

The masks of an instance segmentation set are no partition: they overlap, and crowds are not
delineated. Here a pixel of several objects belongs to the one of least area, since small things
lie on large ones; pixels of crowds (and of other ignored instances) that are no object's are void
and count nowhere; all other pixels are background, one segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Index of the background; objects are 1 .. n, void is -1.
BACKGROUND = 0
VOID = -1


@dataclass(frozen=True)
class Segments:
    """A partition of an image's pixels.

    Args:
        index (ndarray): ``(H, W)`` int64: 0 background, 1 .. n objects, -1 void.
        areas (ndarray): Pixels of each object's mask, hidden ones included, ``(n,)`` int64.
    """

    index: np.ndarray
    areas: np.ndarray

    @classmethod
    def of_masks(cls, objects: np.ndarray, ignored: np.ndarray) -> Segments:
        """Partition of the pixels by masks.

        Args:
            objects (ndarray): Masks of objects, ``(n, H, W)``, bool or 0 and 1.
            ignored (ndarray): Masks of crowds and other ignored instances, ``(m, H, W)`` likewise.

        Returns:
            Segments: The partition.

        Raises:
            ValueError: If masks are not three-dimensional, or not of one size.
        """
        if objects.ndim != 3 or ignored.ndim != 3 or objects.shape[1:] != ignored.shape[1:]:
            raise ValueError(
                'masks must be (n, H, W) and (m, H, W) of one size, got '
                f'{objects.shape} and {ignored.shape}'
            )
        areas = objects.astype(bool).sum(axis=(1, 2), dtype=np.int64)
        index = np.full(objects.shape[1:], BACKGROUND, dtype=np.int64)
        for position in np.argsort(-areas, kind='stable'):
            index[objects[position].astype(bool)] = position + 1
        index[ignored.astype(bool).any(axis=0) & (index == BACKGROUND)] = VOID
        return cls(index, areas)

    @property
    def num_columns(self) -> int:
        """Columns of an overlap table: background, the objects, void."""
        return len(self.areas) + 2


def patch_overlap(
    segments: Segments, shape: tuple[int, int], grid: tuple[int, int], patch_size: int = 16
) -> np.ndarray:
    """How many pixels of each segment lie in each patch.

    Pixels are those of the annotation. The model may see the image in another size and padded:
    each pixel counts in the patch that its centre falls into when the image is resized, so masks
    are not resampled, and padding holds no pixel.

    Args:
        segments (Segments): Segments of the image.
        shape (tuple[int, int]): Height and width of the image as the model saw it, in pixels,
            without padding.
        grid (tuple[int, int]): Height and width of the padded patch grid.
        patch_size (int): Side of a patch in pixels. Default: 16.

    Returns:
        ndarray: ``(patches, 1 + n + 1)`` int64: background, the objects, void.

    Raises:
        ValueError: If the image does not fit in the grid.
    """
    if any(side > cells * patch_size for side, cells in zip(shape, grid, strict=True)):
        raise ValueError(
            f'an image of {shape[0]}x{shape[1]} pixels does not fit in a grid of '
            f'{grid[0]}x{grid[1]} patches of {patch_size} pixels'
        )
    rows, cols = (
        ((np.arange(pixels) + 0.5) * (side / pixels) // patch_size).astype(np.int64)
        for pixels, side in zip(segments.index.shape, shape, strict=True)
    )
    patches = rows[:, None] * grid[1] + cols
    columns = segments.index % segments.num_columns  # void is the last one
    cells = patches * segments.num_columns + columns
    size = grid[0] * grid[1] * segments.num_columns
    return np.bincount(cells.ravel(), minlength=size).reshape(-1, segments.num_columns)


def cluster_overlap(patches: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many pixels of each segment lie in each cluster of patches.

    Args:
        patches (ndarray): What :func:`patch_overlap` returns, ``(patches, columns)``.
        labels (ndarray): Cluster of each patch, any shape of ``patches`` entries, int, values
            ``0 .. K - 1``.

    Returns:
        ndarray: ``(K, columns)`` int64.
    """
    labels = labels.reshape(-1)
    table = np.zeros((labels.max() + 1, patches.shape[1]), dtype=np.int64)
    np.add.at(table, labels, patches)
    return table
