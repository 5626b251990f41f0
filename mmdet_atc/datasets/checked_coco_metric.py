"""COCO's figures on annotation files as they are, not as pycocotools wants them."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from .coco_file import CheckedCOCO, is_polygon


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """:class:`mmdet.evaluation.CocoMetric` that treats bad polygons as training does.

    pycocotools takes a polygon of two points for a box and fails on one of a point, after the
    whole evaluation. Here polygons of fewer than three points are left out, and an object that
    has no other is ignored like a crowd: it is neither found nor missed. The file is read as the
    data set reads it, see :class:`~mmdet_atc.datasets.coco_file.CheckedCOCO`. Objects of images
    that the data set leaves out (``indices``) are not missed.

    Args:
        ann_file (str, optional): Annotation file. Default: None.
        *args: As for ``CocoMetric``.
        **kwargs: As for ``CocoMetric``.

    Raises:
        DataError: If the file's categories are not the data set's classes in their order; before
            the first image.
    """

    _coco_api: CheckedCOCO | None

    def __init__(
        self,
        ann_file: str | None = None,
        *args: Any,
        sort_categories: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(None, *args, **kwargs)
        if ann_file is None:
            return
        with get_local_path(ann_file, backend_args=self.backend_args) as path:
            self._coco_api = CheckedCOCO(path, f'{ann_file}, which the evaluator reads')
        if sort_categories:
            self._coco_api.dataset['categories'].sort(key=itemgetter('id'))
        if 'segm' in self.metrics:
            _ignore_bad_polygons(self._coco_api)

    @property
    def dataset_meta(self) -> dict | None:
        """What the data set says of itself, ``classes`` above all."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        if self._coco_api is not None and meta:
            self._coco_api.get_cat_ids(cat_names=meta.get('classes', ()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Figures by the images that were run."""
        self.img_ids = [truth['img_id'] for truth, _ in results]
        if self._coco_api is not None and len(self.img_ids) < len(self._coco_api.imgs):
            print_log(
                f'Figures are of the {len(self.img_ids)} images that were run, of '
                f'{len(self._coco_api.imgs)} in {self._coco_api.name}',
                logger='current',
            )
        return super().compute_metrics(results)


def _ignore_bad_polygons(coco: CheckedCOCO) -> None:
    """Without polygons of fewer than three points; with no other, or no mask, it is a crowd."""
    for annotation in coco.anns.values():
        mask = annotation['segmentation']
        if isinstance(mask, dict):
            continue
        good = list(filter(is_polygon, mask))
        if not good:
            x, y, width, height = annotation['bbox']
            good = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            annotation['iscrowd'] = 1
        annotation['segmentation'] = good
