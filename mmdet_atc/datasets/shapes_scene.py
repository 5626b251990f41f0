"""One picture of shapes with the visible mask of each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SHAPES_CLASSES = ('circle', 'rectangle', 'triangle', 'star')
#: An object of which less than this share stays visible is left out.
_MIN_VISIBLE = 0.4
_EMPTY_EVERY = 20
_CROWD_EVERY = 10


@dataclass(frozen=True)
class ShapeObject:
    """A visible object: its class, mask ``(H, W)`` bool, and whether it is a crowd."""

    name: str
    mask: np.ndarray
    is_crowd: bool = False


def draw_scene(
    rng: np.random.Generator, height: int, width: int, index: int
) -> tuple[np.ndarray, list[ShapeObject]]:
    """Draw a scene, objects later in the list in front of earlier ones.

    Args:
        rng (Generator): Source of all randomness.
        height (int): Height in pixels.
        width (int): Width in pixels.
        index (int): Position in the set: every 20th picture is empty, every 10th has a crowd.

    Returns:
        tuple[ndarray, list[ShapeObject]]: The picture, ``(H, W, 3)`` uint8 RGB, and the objects in
        it, whose masks are disjoint.
    """
    image = _ground(rng, height, width)
    drawn: list[tuple[str, np.ndarray, bool]] = []
    if index % _EMPTY_EVERY != _EMPTY_EVERY - 1:
        if index % _CROWD_EVERY == _CROWD_EVERY // 2:
            drawn.append(_crowd(rng, height, width))
        for _ in range(rng.integers(1, 4)):
            name = SHAPES_CLASSES[rng.integers(len(SHAPES_CLASSES))]
            radius = rng.uniform(0.22, 0.36) * min(height, width)
            centre = rng.uniform(
                (0.6 * radius, 0.6 * radius), (width - 0.6 * radius, height - 0.6 * radius)
            )
            drawn.append((name, _shape_mask(rng, name, centre, radius, (height, width)), False))
    hidden = np.zeros((height, width), dtype=bool)
    objects = []
    for name, mask, is_crowd in reversed(drawn):
        visible = mask & ~hidden
        if visible.sum() >= max(24, _MIN_VISIBLE * mask.sum()):
            objects.append(ShapeObject(name, visible, is_crowd))
            hidden |= mask
            image[visible] = _paint(rng, name, visible)
    noise = rng.normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), objects[::-1]


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth random texture, ``(H, W, 3)`` float."""
    coarse = rng.uniform(90, 165, (rng.integers(2, 6), rng.integers(2, 6), 3))
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


def _paint(rng: np.random.Generator, name: str, mask: np.ndarray) -> np.ndarray:
    """Random colours in a pattern typical of the class, ``(n, 3)`` float for the mask's pixels."""
    first = rng.uniform(0, 255, 3)
    second = (first + 128) % 256
    y, x = np.nonzero(mask)
    angle, period = rng.uniform(0, np.pi), rng.uniform(10, 16)
    along = (x * np.cos(angle) + y * np.sin(angle)) / period % 1 < 0.5
    across = (y * np.cos(angle) - x * np.sin(angle)) / period % 1 < 0.5
    pattern = dict(
        circle=np.zeros(len(x), dtype=bool),
        rectangle=along,
        triangle=along == across,
        star=np.hypot(x - x.mean(), y - y.mean()) % period < 0.5 * period,
    )[name]
    return np.where(pattern[:, None], second, first)


def _crowd(rng: np.random.Generator, height: int, width: int) -> tuple[str, np.ndarray, bool]:
    """A pile of small shapes of one class, annotated as one region."""
    name = SHAPES_CLASSES[rng.integers(len(SHAPES_CLASSES))]
    centre = rng.uniform((0.25 * width, 0.25 * height), (0.75 * width, 0.75 * height))
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(12):
        place = centre + rng.normal(0, 0.09 * min(height, width), 2)
        mask |= _shape_mask(rng, name, place, 0.04 * min(height, width), (height, width))
    return name, mask, True


def _shape_mask(
    rng: np.random.Generator, name: str, centre: np.ndarray, radius: float, shape: tuple[int, int]
) -> np.ndarray:
    """Mask ``(H, W)`` bool of one rotated shape inside a circle."""
    if name == 'circle':
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radii = np.full(48, 0.85 * radius)
    elif name == 'rectangle':
        corner = np.arctan(rng.uniform(0.5, 1.0))
        angles = np.array([corner, np.pi - corner, np.pi + corner, -corner])
        radii = np.full(4, radius)
    elif name == 'triangle':
        angles = np.array([0, 2, 4]) * np.pi / 3
        radii = np.full(3, 1.1 * radius)
    else:
        angles = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 1.15 * radius, 0.45 * radius)
    angles = angles + rng.uniform(0, 2 * np.pi)
    corners = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mask = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return mask.astype(bool)
