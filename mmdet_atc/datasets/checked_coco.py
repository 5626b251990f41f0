"""COCO data sets whose faults are named by file and id."""

from __future__ import annotations

import logging
import os.path as osp
from glob import glob
from typing import Any

import cv2
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from mmdet_atc.arguments import check_bools, check_choice

from .audit import Audit
from .coco_file import CheckedCOCO
from .errors import DataError, first_line
from .image_checks import CheckJPEGEnd, MatchAnnotatedSize

#: What unreadable files and impossible annotations raise in MMDetection's transforms. Anything
#: else is a mistake in the program, whose traceback matters.
_FAULTS = (OSError, ValueError, AssertionError, cv2.error)


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

    def _join_prefix(self) -> None:
        """Without ``data_prefix``, where MMDetection fails, images lie in ``data_root``."""
        self.data_prefix.setdefault('img', self.data_prefix.get('img_path', ''))
        super()._join_prefix()

    def COCOAPI(self, path: str) -> CheckedCOCO:  # noqa: N802
        """Read the annotation file; MMDetection's ``load_data_list`` calls it."""
        try:
            file = CheckedCOCO(path, self.ann_file)
        except FileNotFoundError as error:
            advice = (
                'set the data root, with COCO_ROOT for the configs of COCO or with --cfg-options '
                'data_root=FOLDER'
            )
            if there := glob(osp.join(osp.dirname(osp.abspath(self.ann_file)), '*.json')):
                advice = f'there are {", ".join(sorted(map(osp.basename, there))[:8])}'
            raise DataError(f'no annotations at {self.ann_file}: {advice}') from error
        self._check_paths(file)
        classes = self.metainfo['classes']
        file.get_cat_ids(classes)
        with_mask = any(getattr(t, 'with_mask', False) for t in self.pipeline.transforms)
        found = Audit(file, classes, with_mask, None if self.test_mode else self.filter_cfg)
        if not self.test_mode:
            found.require_objects()
        print_log(str(found), logger='current')
        if found.lost:
            message = (
                f'{self.ann_file}: all objects of {", ".join(found.lost)} are left out, see the '
                "rules above: the model cannot learn them (audit='strict' stops here)"
            )
            if self._is_strict:
                raise DataError(f'{message}\n{found}')
            print_log(message, logger='current', level=logging.WARNING)
        return file

    def _check_paths(self, file: CheckedCOCO) -> None:
        folder = self.data_prefix.get('img') or ''
        roots = [osp.abspath(root) for root in (self.data_root, folder) if root is not None]
        for image in file.imgs.values():
            name = image.get('file_name')
            if not isinstance(name, str):
                raise DataError(
                    f'{self.ann_file}: image {image["id"]}: file_name must be a path, got {name!r}'
                )
            if self.allow_outside_root or not (osp.isabs(name) or '..' in name or '://' in name):
                continue
            path = osp.abspath(osp.join(folder, name))
            if '://' in name or all(osp.commonpath([path, root]) != root for root in roots):
                raise DataError(
                    f'{self.ann_file}: image {image["id"]}: file_name {name!r} leads out of the '
                    f'data root {self.data_root or folder!r}; set allow_outside_root=True in the '
                    'dataset if that is meant'
                )

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
                f'image {info["img_id"]} ({info["img_path"]}): {first_line(error)}'
            ) from error
