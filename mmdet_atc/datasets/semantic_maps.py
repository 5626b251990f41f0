"""COCO annotations as the label maps that MMSegmentation reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO


def write_semantic_maps(root: str | Path) -> None:
    """Write a label map ``semantic_SPLIT/NAME.png`` for each image of a set in COCO's layout.

    A pixel's label is 1 + the place of its object's category in the file, 0 where there is none;
    of overlapping objects the last one counts. Maps that are there already are written anew.

    Args:
        root (str | Path): Holds ``annotations/instances_SPLIT.json``.

    Raises:
        FileNotFoundError: If there is no such annotation file.
    """
    for split in ('train2017', 'val2017'):
        coco = COCO(Path(root, 'annotations', f'instances_{split}.json'))
        labels = {category: label for label, category in enumerate(coco.getCatIds(), start=1)}
        folder = Path(root, f'semantic_{split}')
        folder.mkdir(exist_ok=True)
        for image in coco.loadImgs(coco.getImgIds()):
            labelled = np.zeros((image['height'], image['width']), np.uint8)
            for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
                labelled[coco.annToMask(annotation) > 0] = labels[annotation['category_id']]
            cv2.imwrite(str(folder / Path(image['file_name']).with_suffix('.png').name), labelled)
