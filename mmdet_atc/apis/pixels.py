"""Pixels of any kind as OpenCV reads them from a file: 8 bit, three channels."""

from __future__ import annotations

import numpy as np


def as_8_bit_colour(image: np.ndarray) -> np.ndarray:
    """What a file of these pixels would be read as.

    Args:
        image (np.ndarray): ``(H, W)``, ``(H, W, 1)``, or ``(H, W, 3 or 4)`` in OpenCV's order, BGR;
            uint8, uint16, bool, or floats in 0 to 255.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8; transparency is left out, of 16 bits the upper 8 are taken.

    Raises:
        ValueError: If it is no image, of another dtype, or floats out of range; floats of at most 1
            could mean black or white.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f'an image must be (H, W), (H, W, 3) or (H, W, 4), got {image.shape}')
    image = image[..., :3] if image.shape[2] > 1 else image.repeat(3, axis=2)
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f'an image must be of uint8, uint16, bool or floats, got {image.dtype}')
    if not (image.min() >= 0 and 1 < image.max() <= 255):
        raise ValueError(
            f'floats of an image must be in 0 to 255, got {image.min()} to {image.max()}: '
            'multiply those in 0 to 1 by 255'
        )
    return image.round().astype(np.uint8)
