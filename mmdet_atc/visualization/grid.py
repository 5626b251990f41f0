"""Clusters of an image after each merge, for one or more methods, as in figure 5 of the paper."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from .clusters import draw_clusters, draw_padded_image
from .predict import ImageClusters

_FONT = cv2.FONT_HERSHEY_SIMPLEX
#: Narrower pictures have no room for legible titles.
_MIN_WIDTH = 320
_MARGIN = 12


def draw_cluster_grid(columns: Mapping[str, ImageClusters], cell: int | None = None) -> np.ndarray:
    """The image, then one row for each merge and one column for each method.

    Args:
        columns (Mapping[str, ImageClusters]): Clusters of one image by the name of the method.
        cell (int, optional): Side of a patch in pixels of the picture, at least 4. None is the
            image's own size, or more where the image is narrower than 320 pixels. Default: None.

    Returns:
        ndarray: RGB picture on white, ``(H, W, 3)`` uint8. All its parts have the size of the
        padded image, a title above each, and the methods' names above the first row of clusters.

    Raises:
        ValueError: If there is no column or they are not of the same image and merge blocks.
    """
    first = _checked(columns)
    rows, cols = first.grid
    if cell is None:
        cell = max(first.patch_size, -(-_MIN_WIDTH // cols))
    height, width = first.image.shape[:2]
    image_title = f'image {height}x{width}, {rows}x{cols} patches'
    titles = [title for each in columns.values() for title in each.titles]
    scale = _font_scale([image_title, *columns, *titles], cols * cell)

    def titled(title: str, tile: np.ndarray) -> list[np.ndarray]:
        return [_text(title, tile.shape[1], scale), tile]

    image = draw_padded_image(first.image, first.grid, first.patch_size, cell)
    stacks: list[np.ndarray] = []
    for name, each in columns.items():
        # The image stands above the first method only.
        above = titled(image_title, image)
        parts = [np.full_like(part, 255) for part in above] if stacks else above
        parts.append(_text(name, cols * cell, scale, bold=True))
        for title, labels in zip(each.titles, each.stages, strict=True):
            parts += titled(title, draw_clusters(each.image, labels, each.patch_size, cell))
        stacks.append(np.concatenate(parts))
    picture = np.full((len(stacks[0]), _MARGIN, 3), 255, dtype=np.uint8)
    for stack in stacks:
        picture = np.concatenate([picture, stack, picture[:, :_MARGIN]], axis=1)
    return np.concatenate([picture, np.full_like(picture[:_MARGIN], 255)])


def _checked(columns: Mapping[str, ImageClusters]) -> ImageClusters:
    """The first column."""
    if not columns:
        raise ValueError('columns must not be empty: nothing to draw')
    (first_name, first), *others = columns.items()
    for name, other in others:
        if not np.array_equal(first.image, other.image) or first.grid != other.grid:
            raise ValueError(f'columns {first_name!r} and {name!r} are of different images')
        if first.blocks != other.blocks:
            raise ValueError(
                f'columns {first_name!r} and {name!r} merge in different blocks: '
                f'{first.blocks} and {other.blocks}'
            )
    return first


def _font_scale(texts: list[str], width: int) -> float:
    """One size for all texts: growing with the width, and such that the longest fits."""
    longest = max(cv2.getTextSize(text, _FONT, 1.0, 2)[0][0] for text in texts)
    return min(max(0.55, width / 900), (width - 8) / longest)


def _text(text: str, width: int, scale: float, bold: bool = False) -> np.ndarray:
    """A line of text, black on white, ``(height, width, 3)`` uint8."""
    height = round(44 * scale) + 6
    line = np.full((height, width, 3), 255, dtype=np.uint8)
    place = (2, height - round(12 * scale) - 2)
    thickness = max(1, round(scale)) + bold
    cv2.putText(line, text, place, _FONT, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return line
