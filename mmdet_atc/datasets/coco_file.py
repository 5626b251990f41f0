"""The door through which annotation files come in: read alike for training and for evaluation.

Exports differ in what they write for the same thing. What has one meaning is read as that; what
could mean two things is an error. Nothing else of the package looks at a file's own spelling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from typing import Any

from mmdet.datasets.api_wrappers import COCO
from pycocotools import mask as coco_mask

from .errors import DataError

#: Coordinates of a triangle, the smallest polygon.
MIN_COORDINATES = 6
#: Where the id of the file is kept, if its ids had to be replaced.
ID_IN_FILE = 'id_in_file'


class CheckedCOCO(COCO):
    """COCO's API on a file of which ids, crowds and categories have been put in order.

    - Ids and ``iscrowd`` as strings or floats, and sizes as floats (``64.0``), are whole numbers.
    - Without ``iscrowd``, or with null, an object is no crowd.
    - Without ``area``, or with null, it is the mask's, as in COCO, or the box's without a mask.
    - One flat list of coordinates, as VIA writes, is one polygon.
    - A category without objects that has the name of another, as the root of Roboflow's exports, is
      none.
    - Annotations whose ids are not different positive numbers are numbered anew: pycocotools takes
      a match with id 0 for none, and one of two objects with the same id for both.

    Raises:
        DataError: If two categories with objects have the same name or one has none, an image or a
            category id is there twice, an id is missing or neither number nor name, or ``iscrowd``
            is neither 0 nor 1.
    """

    def createIndex(self) -> None:  # noqa: N802
        """Put the content in order, then index it; pycocotools calls this once a file is read."""
        put_in_order(self.dataset)
        super().createIndex()
        for annotation in self.dataset.get('annotations', ()):
            if annotation.get('area') is None:
                annotation['area'] = self._area(annotation)

    def _area(self, annotation: dict) -> float:
        mask = annotation.get('segmentation') or []
        if isinstance(mask, list):
            mask = [polygon for polygon in mask if is_polygon(polygon) and isfinite(sum(polygon))]
        if mask and annotation['image_id'] in self.imgs:
            return float(coco_mask.area(self.annToRLE({**annotation, 'segmentation': mask})))
        return annotation['bbox'][2] * annotation['bbox'][3]

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """Categories by name, where each is there and in order.

        MMDetection leaves out names that the file lacks, and numbers the others as the file does:
        labels then silently stand for other names than ``metainfo['classes']`` says.

        Raises:
            DataError: If a name is missing or the order another one.
        """
        there = [category['name'] for category in self.dataset.get('categories', ())]
        missing = [name for name in cat_names if name not in there]
        if missing:
            raise DataError(
                f'no category {missing[0]!r}, which the classes name; it has {", ".join(there)}'
            )
        in_order = [name for name in there if name in cat_names]
        # A name given twice does no harm where every label still stands for its name.
        if in_order != list(cat_names)[: len(in_order)]:
            raise DataError(
                'the categories have another order than the classes, and labels would get the '
                f"wrong names: write metainfo['classes'] as {tuple(in_order)}"
            )
        return super().get_cat_ids(cat_names, sup_names, cat_ids)


def put_in_order(content: dict) -> None:
    """Change the content of a COCO file in place, as :class:`CheckedCOCO` says."""
    images, categories = content.get('images', ()), content.get('categories', ())
    annotations = content.get('annotations', ())
    for image in images:
        for side in ('height', 'width'):
            length = image.get(side)
            if isinstance(length, float) and length.is_integer():
                image[side] = int(length)
    for kind, entries in (('image', images), ('category', categories)):
        _whole_numbers(kind, entries, 'id')
        _refuse_twice(kind, entries)
    for key in ('image_id', 'category_id'):
        _whole_numbers('annotation', annotations, key)
    for annotation in annotations:
        if annotation.get('iscrowd') not in (0, 1):
            annotation['iscrowd'] = _crowd(annotation)
    _nest_polygons(annotations)
    _number_anew(annotations)
    if 'categories' in content:
        content['categories'] = _named_once(content['categories'], annotations)


def is_polygon(coordinates: list[float]) -> bool:
    """Whether these are ``x, y`` of at least three points."""
    return len(coordinates) >= MIN_COORDINATES and len(coordinates) % 2 == 0


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
        raise DataError(
            f'iscrowd of annotation {annotation.get("id")} must be 0 or 1, got {value!r}'
        )
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


def _nest_polygons(annotations: Sequence[dict]) -> None:
    masks = (annotation.get('segmentation') for annotation in annotations)
    first = next((mask for mask in masks if mask and isinstance(mask, list)), None)
    # All of a file are written by one tool; were they not, they are refused by name later.
    if first is None or isinstance(first[0], list):
        return
    for annotation in annotations:
        mask = annotation.get('segmentation')
        if mask and isinstance(mask, list) and not isinstance(mask[0], list):
            annotation['segmentation'] = [mask]


def _number_anew(annotations: list[dict]) -> None:
    ids: set[Any] = {annotation.get('id') for annotation in annotations}
    if len(ids) == len(annotations) and set(map(type, ids)) == {int} and min(ids) > 0:
        return
    for number, annotation in enumerate(annotations, 1):
        annotation.setdefault(ID_IN_FILE, annotation.get('id', f'number {number}'))
        annotation['id'] = number


def _named_once(categories: list[dict], annotations: list[dict]) -> list[dict]:
    """Without those that have no objects and the name of another one."""
    for category in categories:
        if not isinstance(category.get('name'), str):
            raise DataError(f'category {category["id"]} has no name, got {category.get("name")!r}')
    counts = Counter(category['name'] for category in categories)
    twice = {name for name, count in counts.items() if count > 1}
    if not twice:
        return categories
    used = {annotation.get('category_id') for annotation in annotations}
    kept = {}
    for category in categories:
        name = category['name']
        if name not in twice or name not in kept:
            kept[name] = category
        elif category['id'] in used:
            if kept[name]['id'] in used:
                raise DataError(
                    f'categories {kept[name]["id"]} and {category["id"]} are both named {name!r} '
                    'and both have objects: rename one, or give their objects the same id'
                )
            kept[name] = category
    return [category for category in categories if kept[category['name']] is category]
