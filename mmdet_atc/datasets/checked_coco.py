"""COCO data sets whose faults are named by file and id."""

from __future__ import annotations

import logging
import math
import os.path as osp
from glob import glob
from typing import Any

import cv2
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from mmdet_atc.arguments import check_bools, check_choice

from .audit import Audit, require_objects
from .coco_file import ID_IN_FILE, CheckedCOCO
from .errors import DataError
from .image_checks import CheckJPEGEnd, MatchAnnotatedSize

#: What unreadable files and impossible annotations raise in MMDetection's transforms. Anything
#: else is a mistake in the program, whose traceback matters.
_FAULTS = (OSError, ValueError, AssertionError, cv2.error)
BOX_NUMBERS = 4


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """:class:`mmdet.datasets.CocoDataset` for files from any source.

    Annotations are checked when they are read, and a table says which of them are used and which
    rule leaves out the others (:class:`mmdet_atc.datasets.audit.Audit`). Each class must be a
    category of the file, in the file's order. An image that cannot be loaded ends the run with its
    id and path instead of a random other image being taken. Images are not read from outside the
    data root. Where the size in the annotations says that they were made without the orientation
    in the image's EXIF data, the image is read without it too.

    Args:
        *args: As for ``CocoDataset``.
        allow_outside_root (bool): Whether ``file_name`` may lead out of ``data_root`` and out of
            ``data_prefix['img']`` (absolute paths, ``..``, URLs). Default: False.
        audit (str): ``'warn'``, or ``'strict'``: that a class has objects but none of them can be
            used is an error and no warning. Default: ``'warn'``.
        **kwargs: As for ``CocoDataset``.

    Raises:
        DataError: If the annotation file is no COCO file or lacks a class, an annotation is not
            usable, or nothing is left to train on.
        ValueError: If ``allow_outside_root`` is no bool or ``audit`` neither word.
    """

    def __init__(
        self,
        *args: Any,
        allow_outside_root: bool = False,
        audit: str = 'warn',
        **kwargs: Any,
    ) -> None:
        check_bools(allow_outside_root=allow_outside_root)
        check_choice(('warn', 'strict'), audit=audit)
        self.allow_outside_root = allow_outside_root
        self._is_strict = audit == 'strict'
        super().__init__(*args, **kwargs)
        transforms = self.pipeline.transforms
        for index in reversed(range(len(transforms))):
            if isinstance(transforms[index], LoadImageFromFile):
                transforms.insert(index + 1, MatchAnnotatedSize(transforms[index].backend_args))
                transforms.insert(index, CheckJPEGEnd())

    def COCOAPI(self, path: str) -> CheckedCOCO:  # noqa: N802
        """Read the annotation file; MMDetection's ``load_data_list`` calls it."""
        file = CheckedCOCO(path)
        with_mask = any(getattr(t, 'with_mask', False) for t in self.pipeline.transforms)
        rules = None if self.test_mode else self.filter_cfg
        self._found = Audit(self.ann_file, file.dataset, self.metainfo['classes'], with_mask, rules)
        return file

    def load_data_list(self) -> list[dict]:
        try:
            data_list = super().load_data_list()
            self._report(self._found)
            del self._found
            return data_list
        except DataError as error:
            # Errors of the categories; those of an image name the file already.
            if str(error).startswith(self.ann_file):
                raise
            raise DataError(f'{self.ann_file}: {error}') from error
        except FileNotFoundError as error:
            advice = (
                'set the data root, with COCO_ROOT for the configs of COCO or with --cfg-options '
                'data_root=FOLDER'
            )
            if there := glob(osp.join(osp.dirname(osp.abspath(self.ann_file)), '*.json')):
                advice = f'there are {", ".join(sorted(map(osp.basename, there))[:8])}'
            raise DataError(f'no annotations at {self.ann_file}: {advice}') from error
        except (ValueError, AssertionError, KeyError, TypeError, AttributeError) as error:
            reason = f'no {error}' if isinstance(error, KeyError) else _first_line(error)
            raise DataError(f'{self.ann_file} is no COCO annotation file: {reason}') from error

    def _report(self, found: Audit) -> None:
        found.finish()
        if not self.test_mode:
            require_objects(found, bool((found.filter_cfg or {}).get('filter_empty_gt')))
        print_log(str(found), logger='current')
        if found.lost:
            message = (
                f'{self.ann_file}: all objects of {", ".join(found.lost)} are left out, see the '
                "rules above: the model cannot learn them (audit='strict' stops here)"
            )
            if self._is_strict:
                raise DataError(f'{message}\n{found}')
            print_log(message, logger='current', level=logging.WARNING)

    def parse_data_info(self, raw_data_info: dict) -> dict:
        image, annotations = raw_data_info['raw_img_info'], raw_data_info['raw_ann_info']
        try:
            self._check_path(image['file_name'])
            _check_size(image)
            for annotation in annotations:
                check_annotation(annotation, image)
                if not annotation.get('segmentation'):
                    # A polygon without points is ignored; without any mask, loading fails.
                    annotation['segmentation'] = [[]]
            info = super().parse_data_info(raw_data_info)
            self._found.add(image, annotations, info['instances'])
            return info
        except KeyError as error:
            raise DataError(f'{self.ann_file}: image {image.get("id")} has no {error}') from error
        except DataError as error:
            raise DataError(f'{self.ann_file}: image {image.get("id")}: {error}') from error

    def prepare_data(self, idx: int) -> Any:
        """One sample through the pipeline.

        Args:
            idx (int): Position in the data set.

        Raises:
            DataError: If the image cannot be read or does not fit its annotations.
            RuntimeError: If a transform fails otherwise. Both name the image.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:
            info = self.get_data_info(idx)
            kind = DataError if isinstance(error, _FAULTS) else RuntimeError
            raise kind(
                f'image {info["img_id"]} ({info["img_path"]}): {_first_line(error)}'
            ) from error

    def _check_path(self, file_name: str) -> None:
        if not isinstance(file_name, str):
            raise DataError(f'file_name must be a path, got {file_name!r}')
        is_plain = not osp.isabs(file_name) and '..' not in file_name and '://' not in file_name
        if is_plain or self.allow_outside_root:
            return
        folder = self.data_prefix.get('img') or ''
        path = osp.join(folder, file_name)
        if '://' in file_name or not any(_inside(path, root) for root in (self.data_root, folder)):
            raise DataError(
                f'file_name {file_name!r} leads out of the data root '
                f'{self.data_root or folder!r}; set allow_outside_root=True in the dataset if '
                'that is meant'
            )


def check_annotation(annotation: dict, image: dict) -> None:
    """Check an annotation as far as later code would fail, or silently go wrong, on it.

    Boxes without area, or outside the image, and polygons of fewer than three corners are no
    errors: MMDetection leaves out the first and ignores the second.

    Args:
        annotation (dict): Of a COCO file.
        image (dict): Its image, of the same file.

    Raises:
        DataError: If its box is not four finite numbers, its area none, or its mask not one of
            COCO's formats or not of the image's size.
    """
    try:
        mask = annotation.get('segmentation')
        # Sums are finite if their terms are, and quick: COCO has tens of millions of coordinates.
        if (
            len(annotation['bbox']) == BOX_NUMBERS
            and math.isfinite(sum(annotation['bbox']) + annotation['area'])
            and 'category_id' in annotation
            and (not mask or (isinstance(mask, list) and math.isfinite(sum(map(sum, mask)))))
        ):
            return
    except (KeyError, TypeError, OverflowError):
        pass
    _name_fault(annotation, image)


def _name_fault(annotation: dict, image: dict) -> None:
    name = f'annotation {annotation.get(ID_IN_FILE, annotation.get("id"))}'
    for key in ('bbox', 'category_id'):
        if key not in annotation:
            raise DataError(f'{name} has no {key!r}')
    box, area = annotation['bbox'], annotation['area']
    if not _finite_numbers(box) or len(box) != BOX_NUMBERS:
        raise DataError(f'bbox of {name} must be four finite numbers, got {box!r}')
    if not _finite_numbers([area]):
        raise DataError(f'area of {name} must be a finite number, got {area!r}')
    mask = annotation.get('segmentation')
    if isinstance(mask, dict):
        size = [image['height'], image['width']]
        if 'counts' not in mask or list(mask.get('size', ())) != size:
            raise DataError(f'segmentation of {name} must be an RLE of the image size {size}')
    elif mask and (not isinstance(mask, list) or not all(map(_finite_numbers, mask))):
        raise DataError(f'segmentation of {name} must be polygons of finite numbers or an RLE')


def _check_size(image: dict) -> None:
    for key in ('height', 'width'):
        if not isinstance(image[key], int) or image[key] < 1:
            raise DataError(f'{key} must be a positive number of pixels, got {image[key]!r}')


def _finite_numbers(values: Any) -> bool:
    try:
        return isinstance(values, (list, tuple)) and math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _inside(path: str, root: str | None) -> bool:
    if root is None:
        return False
    path, root = osp.abspath(path), osp.abspath(root)
    return osp.commonpath([path, root]) == root


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
