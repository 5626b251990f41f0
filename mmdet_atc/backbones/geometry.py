"""What depends on nothing but the size of an image."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from mmdet_atc.layers import DeformableTarget


@dataclass(frozen=True)
class Geometry:
    """Grid, pyramid, and where the deformable attention looks, for images of one size.

    Args:
        grid (tuple[int, int]): Height and width of the patch grid.
        pyramid (tuple): Heights and widths of the pyramid's levels at strides 8, 16, 32.
        injector (DeformableTarget): Patches look at the pyramid.
        extractor (DeformableTarget): The pyramid looks at the patches.
    """

    grid: tuple[int, int]
    pyramid: tuple[tuple[int, int], ...]
    injector: DeformableTarget
    extractor: DeformableTarget

    @classmethod
    def of_image(cls, image: torch.Tensor) -> Geometry:
        """Of a batch of padded images, ``(B, C, H, W)``; the sizes seen last are kept."""
        height, width = image.shape[-2:]
        if torch.jit.is_tracing():  # where sizes are tensors; a trace is of one size
            height, width = int(height), int(width)
        if torch.compiler.is_compiling():
            return cls._make(height, width, image.device)  # part of the graph
        # Made in inference mode, the tensors could not be used in training later.
        with torch.inference_mode(False):
            return _kept_geometry(height, width, image.device)

    @classmethod
    def _make(cls, height: int, width: int, device: torch.device) -> Geometry:
        grid = (height // 16, width // 16)
        pyramid = (
            (height // 8, width // 8),
            (height // 16, width // 16),
            (height // 32, width // 32),
        )
        return cls(
            grid,
            pyramid,
            DeformableTarget.between((grid,), pyramid, device),
            DeformableTarget.between(pyramid, (grid,), device),
        )


_kept_geometry = functools.lru_cache(maxsize=64)(Geometry._make)
