"""The door through which annotation files come in: read alike for training and for evaluation.

Exports differ in what they write for the same thing. What has one meaning is read as that; what
could mean two things, or on which later code would silently go wrong, is an error. Nothing else of
the package looks at a file's own spelling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from pycocotools import mask as coco_mask

from .errors import DataError, first_line

#: Coordinates of a triangle, the smallest polygon.
MIN_COORDINATES = 6
#: Where the id of the file is kept, if its ids had to be replaced.
_ID_IN_FILE = 'id_in_file'


class CheckedCOCO(COCO):
    """COCO's API on a file whose content has been put in order and checked.

    - Ids and ``iscrowd`` as strings or floats, and sizes as floats (``64.0``), are whole numbers.
    - Without ``iscrowd``, or with null, an object is no crowd.
    - Without ``area``, or with null, it is the mask's, as in COCO, or the box's without a mask.
    - Without ``segmentation`` there is one polygon without points, which MMDetection ignores.
    - One flat list of coordinates, as VIA writes, is one polygon.
    - A category without objects that has the name of another, as the root of Roboflow's exports, is
      none.
    - Annotations whose ids are not different positive numbers are numbered anew: pycocotools takes
      a match with id 0 for none, and one of two objects with the same id for both.

    Boxes without area, or outside the image, and polygons of fewer than three corners are no
    errors: MMDetection leaves out the first and ignores the second. Nothing is asked of annotations
    of images that the file lacks.

    Args:
        path (str, optional): The file. Default: None, no content.
        name (str, optional): What errors call it. Default: ``path``.

    Raises:
        DataError: If it is no COCO file, two categories with objects have the same name or one has
            none, an image or a category id is there twice, an id is missing or neither number nor
            name, a category is not defined, ``iscrowd`` is neither 0 nor 1, the size of an image
            no number of pixels, a box not four finite numbers, an area none, or a mask not one of
            COCO's formats, not of the image's size, or of run lengths that do not add up to it.
    """

    def __init__(self, path: str | None = None, name: str | None = None) -> None:
        self.name = name or path
        try:
            super().__init__(path)
        except DataError as error:
            raise DataError(f'{self.name}: {error}') from error
        except (ValueError, AssertionError, KeyError, TypeError, AttributeError) as error:
            reason = f'no {error}' if isinstance(error, KeyError) else first_line(error)
            raise DataError(f'{self.name} is no COCO annotation file: {reason}') from error

    def createIndex(self) -> None:  # noqa: N802
        """Put the content in order, then index it; pycocotools calls this once a file is read."""
        _put_in_order(self.dataset)
        super().createIndex()
        for annotation in self.dataset.get('annotations', ()):
            if annotation.get('iscrowd') not in (0, 1):
                annotation['iscrowd'] = _crowd(annotation)
            mask = annotation.get('segmentation')
            if not mask:
                annotation['segmentation'] = [[]]
            elif isinstance(mask, list) and not isinstance(mask[0], list):
                annotation['segmentation'] = [mask]
            image = self.imgs.get(annotation['image_id'])
            if image is not None:
                _check_annotation(annotation, image)
                if annotation.get('area') is None:
                    annotation['area'] = self._area(annotation)

    def _area(self, annotation: dict) -> float:
        mask = annotation['segmentation']
        if isinstance(mask, list):
            mask = list(filter(is_polygon, mask))
        if mask:
            return float(coco_mask.area(self.annToRLE({**annotation, 'segmentation': mask})))
        return annotation['bbox'][2] * annotation['bbox'][3]

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """Categories by name, where each is there and in order.

        MMDetection leaves out names that the file lacks, and numbers the others as the file does:
        labels then silently stand for other names than ``metainfo['classes']`` says.

        Raises:
            DataError: If a name is missing or the order another one.
        """
        there = [category['name'] for category in self.dataset['categories']]
        missing = [name for name in cat_names if name not in there]
        if missing:
            raise DataError(
                f'{self.name}: no category {missing[0]!r}, which the classes name; it has '
                f'{", ".join(there)}'
            )
        in_order = [name for name in there if name in cat_names]
        # A name given twice does no harm where every label still stands for its name.
        if in_order != list(cat_names)[: len(in_order)]:
            raise DataError(
                f'{self.name}: the categories have another order than the classes, and labels '
                f"would get the wrong names: write metainfo['classes'] as {tuple(in_order)}"
            )
        return super().get_cat_ids(cat_names, sup_names, cat_ids)


def is_polygon(coordinates: list[float]) -> bool:
    """Whether these are ``x, y`` of at least three points."""
    return len(coordinates) >= MIN_COORDINATES and len(coordinates) % 2 == 0


def name_of(annotation: dict) -> str:
    """What the file calls an annotation."""
    return f'annotation {annotation.get(_ID_IN_FILE, annotation.get("id"))}'


def _put_in_order(content: dict) -> None:
    """Change the content of a COCO file in place, as :class:`CheckedCOCO` says."""
    images, categories = content['images'], content.get('categories', ())
    annotations = content.get('annotations', ())
    for kind, entries in (('image', images), ('category', categories)):
        _whole_numbers(kind, entries, 'id')
        _refuse_twice(kind, entries)
    for image in images:
        _check_image(image)
    for key in ('image_id', 'category_id'):
        _whole_numbers('annotation', annotations, key)
    _number_anew(annotations)
    content['categories'] = _named_once(categories, annotations)
    _check_defined(categories, annotations)


def _whole_numbers(kind: str, entries: Sequence[dict], key: str) -> None:
    if {type(entry.get(key)) for entry in entries} <= {int}:
        return
    for number, entry in enumerate(entries, 1):
        name = f'{kind} {entry.get("id", f"number {number}")}'
        if key not in entry:
            raise DataError(f'{name} has no {key!r}')
        entry[key] = value = _number(entry[key])
        if type(value) not in (int, str):
            raise DataError(f'{key} of {name} must be a number or a name, got {value!r}')
    if key == 'id' and len({type(entry[key]) for entry in entries}) > 1:
        raise DataError(f'some {kind} ids are numbers and some are names, such as {value!r}')


def _number(value: Any) -> Any:
    is_whole = (isinstance(value, str) and value.isdecimal()) or (
        isinstance(value, float) and value.is_integer()
    )
    return int(value) if is_whole else value


def _crowd(annotation: dict) -> int:
    value = _number(annotation.get('iscrowd') or 0)
    if value not in (0, 1):
        raise DataError(f'iscrowd of {name_of(annotation)} must be 0 or 1, got {value!r}')
    return value


def _refuse_twice(kind: str, entries: Sequence[dict]) -> None:
    counts = Counter(entry['id'] for entry in entries)
    if len(counts) == len(entries):
        return
    value, count = counts.most_common(1)[0]
    names = [str(e.get('file_name') or e.get('name')) for e in entries if e['id'] == value]
    raise DataError(
        f'{kind} id {value!r} is there {count} times ({", ".join(names[:3])}), and nobody can tell '
        'which one annotations mean: give each its own, as tools that merge files do'
    )


def _check_image(image: dict) -> None:
    for side in ('height', 'width'):
        if side not in image:
            raise DataError(f'image {image["id"]} has no {side!r}')
        length = image[side]
        if isinstance(length, float):
            image[side] = length = _number(length)
        if not isinstance(length, int) or length < 1:
            raise DataError(
                f'image {image["id"]}: {side} must be a positive number of pixels, got {length!r}'
            )


def _number_anew(annotations: Sequence[dict]) -> None:
    ids: set[Any] = {annotation.get('id') for annotation in annotations}
    if len(ids) == len(annotations) and set(map(type, ids)) == {int} and min(ids) > 0:
        return
    for number, annotation in enumerate(annotations, 1):
        annotation.setdefault(_ID_IN_FILE, annotation.get('id', f'number {number}'))
        annotation['id'] = number


def _named_once(categories: Sequence[dict], annotations: Sequence[dict]) -> list[dict]:
    """Without those that have no objects and the name of another one."""
    used = {annotation['category_id'] for annotation in annotations}
    kept: dict[str, dict] = {}
    for category in categories:
        name = category.get('name')
        if not isinstance(name, str):
            raise DataError(f'category {category["id"]} has no name, got {name!r}')
        other = kept.setdefault(name, category)
        if other['id'] in used and category['id'] in used and other is not category:
            raise DataError(
                f'categories {other["id"]} and {category["id"]} are both named {name!r} and both '
                'have objects: rename one, or give their objects the same id'
            )
        if category['id'] in used:
            kept[name] = category
    return [category for category in categories if kept[category['name']] is category]


def _check_defined(categories: Sequence[dict], annotations: Sequence[dict]) -> None:
    defined = {category['id'] for category in categories}
    used = {annotation['category_id'] for annotation in annotations}
    if used <= defined:
        return
    example = next(a for a in annotations if a['category_id'] not in defined)
    advice = 'correct the ids, or add the category'
    if all(isinstance(number, int) for number in used | defined):
        shift = min(defined, default=0) - min(used)
        if abs(shift) == 1 and {number + shift for number in used} <= defined:
            advice = f'ids of all annotations are off by one: add {shift} to each'
    raise DataError(
        f'category_id {example["category_id"]!r} of {name_of(example)} is not defined; categories '
        f'are {", ".join(map(repr, list(defined)[:8])) or "missing"}: {advice}'
    )


def _check_annotation(annotation: dict, image: dict) -> None:
    """Raise where later code would fail, or silently go wrong, on an annotation."""
    box: Any = annotation.get('bbox')
    area, mask = annotation.get('area'), annotation['segmentation']
    try:  # nearly all are good, which sums tell in one step: COCO has 860,000
        if len(box) == 4 and isfinite(sum(box) + (area or 0) + sum(map(sum, mask))):
            return
    except (TypeError, OverflowError):
        pass
    name, fault = name_of(annotation), None
    if 'bbox' not in annotation:
        fault = f"{name} has no 'bbox'"
    elif not _finite(box) or len(box) != 4:
        fault = f'bbox of {name} must be four finite numbers, got {box!r}'
    elif area is not None and not _finite([area]):
        fault = f'area of {name} must be a finite number, got {area!r}'
    elif isinstance(mask, dict):
        size = [image['height'], image['width']]
        if 'counts' not in mask or list(mask.get('size', ())) != size:
            fault = f'segmentation of {name} must be an RLE of the image size {size}'
        elif not _fill(mask['counts'], size):
            fault = f'run lengths of {name} must be whole and add up to {size[0] * size[1]} pixels'
    elif not isinstance(mask, list) or not all(map(_finite, mask)):
        fault = f'segmentation of {name} must be polygons of finite numbers or an RLE'
    if fault is not None:
        raise DataError(f'image {image["id"]}: {fault}')


def _fill(counts: Any, size: list[int]) -> bool:
    """Whether these are the lengths of runs from the first pixel to the last.

    pycocotools takes any: it reads and writes memory that is not its own, or never returns.
    """
    try:
        runs = _decoded(counts) if isinstance(counts, str) else np.array(counts)
    except ValueError:
        return False
    area = size[0] * size[1]
    return (
        runs.dtype.kind in 'if'
        and runs.ndim == 1
        and bool(((runs >= 0) & (runs <= area) & (runs % 1 == 0)).all())
        and int(runs.sum()) == area
    )


def _decoded(text: str) -> np.ndarray:
    """Run lengths as pycocotools' ``rleFrString`` reads them: 5 bits a character, lowest first."""
    digits = np.frombuffer(text.encode(), np.uint8) - np.uint8(48)
    is_last = digits & 0x20 == 0
    ends = np.flatnonzero(is_last)
    lengths = np.diff(ends, prepend=-1)
    # A run has up to 6 characters, from 48 on: what is below, wrapped, is above 63 too.
    if not digits.size or digits.max() > 63 or not is_last[-1] or lengths.max() > 6:
        raise ValueError(f'no run lengths: {text!r}')
    starts = ends + 1 - lengths
    shifts = 5 * (np.arange(digits.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 0x1F).astype(np.int64) << shifts, starts)
    runs -= np.where(digits[ends] & 0x10, 1 << 5 * lengths, 0)
    # From the fourth on they are differences to the run two before.
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs


def _finite(values: Any) -> bool:
    try:  # a sum is finite if its terms are
        return isinstance(values, (list, tuple)) and isfinite(sum(values))
    except (TypeError, OverflowError):
        return False
