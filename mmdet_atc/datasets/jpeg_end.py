"""A transform of earlier versions."""

from __future__ import annotations

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CheckJPEGEnd(BaseTransform):
    """Does nothing, for configs that name it: OpenCV refuses JPEG files that were cut off."""

    def transform(self, results: dict) -> dict:
        return results
