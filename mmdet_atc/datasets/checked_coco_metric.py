"""COCO's figures on annotation files as they are, not as pycocotools wants them."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from .audit import is_polygon
from .coco_file import CheckedCOCO


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """:class:`mmdet.evaluation.CocoMetric` that treats bad polygons as training does.

    pycocotools takes a polygon of two points for a box and fails on one of a point, after the
    whole evaluation. Here polygons of fewer than three points are left out, and an object that
    has no other is ignored like a crowd: it is neither found nor missed. The file is read as the
    data set reads it, see :class:`~mmdet_atc.datasets.coco_file.CheckedCOCO`.
    """

    _coco_api: COCO | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._coco_api is not None:
            self._coco_api = CheckedCOCO.of(self._coco_api.dataset)
            if 'segm' in self.metrics:
                ignore_bad_polygons(self._coco_api)


def ignore_bad_polygons(coco: COCO) -> None:
    """Leave out polygons of fewer than three points of all annotations, in place.

    Args:
        coco (COCO): Annotations; those without any mask are ignored like those with bad ones.
    """
    for annotation in coco.anns.values():
        mask = annotation.get('segmentation') or []
        if not isinstance(mask, list):
            continue
        good = [polygon for polygon in mask if is_polygon(polygon)]
        if len(good) == len(mask) and mask:
            continue
        if not good:
            x, y, width, height = annotation['bbox']
            good = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            annotation['iscrowd'] = 1
        annotation['segmentation'] = good
