"""COCO annotations as the label maps that MMSegmentation reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from .errors import DataError


def write_semantic_maps(root: str | Path) -> None:
    """Write a label map ``semantic_SPLIT/NAME.png`` for each image of a set in COCO's layout.

    A pixel's label is 1 + the place of its object's category in the file, 0 where there is none;
    of overlapping objects the last one counts. Maps that are there already are written anew. NAME
    has the folders of the image's ``file_name``.

    Args:
        root (str | Path): Holds ``annotations/instances_SPLIT.json``.

    Raises:
        FileNotFoundError: If there is no such annotation file.
        DataError: If a ``file_name`` leads out of the images' folder.
    """
    for split in ('train2017', 'val2017'):
        coco = COCO(Path(root, 'annotations', f'instances_{split}.json'))
        labels = {category: label for label, category in enumerate(coco.getCatIds(), start=1)}
        folder = Path(root, f'semantic_{split}')
        for image in coco.loadImgs(coco.getImgIds()):
            name = Path(image['file_name'])
            if name.is_absolute() or '..' in name.parts:
                raise DataError(
                    f'image {image["id"]}: file_name {str(name)!r} leads out of the images'
                )
            labelled = np.zeros((image['height'], image['width']), np.uint8)
            for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
                labelled[coco.annToMask(annotation) > 0] = labels[annotation['category_id']]
            path = (folder / name).with_suffix('.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), labelled)
