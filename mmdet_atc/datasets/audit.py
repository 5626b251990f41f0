"""What of an annotation file is trained on, and what is left out by which rule."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .coco_file import ID_IN_FILE
from .errors import DataError

#: Coordinates of a triangle, the smallest polygon.
MIN_COORDINATES = 6
UNKNOWN_IMAGE = 'image_id of no image'
NO_MASK = 'no mask'
OTHER_CLASS = 'category not among the classes'


@dataclass
class Audit:
    """Counts of one annotation file.

    Args:
        path (str): The file.
        classes (Sequence[str]): Names of the classes.
        num_images (int): Images in the file.
        num_objects (Counter): By class, objects in the file.
        num_used (Counter): By class, objects that are trained on and looked for in evaluation.
        left_out (Counter): By rule, objects (or images) that are not.
        examples (dict): By rule, the id of one of them in the file.
        num_images_left (int): Images that training uses.
    """

    path: str
    classes: Sequence[str]
    num_images: int
    num_objects: Counter[str] = field(default_factory=Counter)
    num_used: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Any] = field(default_factory=dict)
    num_images_left: int = 0

    @property
    def lost(self) -> list[str]:
        """Classes that have objects in the file, none of which is used."""
        return [name for name in self.classes if self.num_objects[name] and not self.num_used[name]]

    def __str__(self) -> str:
        return '\n'.join(self._lines())

    def _lines(self) -> Iterator[str]:
        total, used = sum(self.num_objects.values()), sum(self.num_used.values())
        yield (
            f'{self.path}: {self.num_images} images ({self.num_images_left} used), '
            f'{total} objects of {len(self.classes)} classes ({used} used)'
        )
        shares = [
            f'{name} {self.num_used[name]}'
            + (f' of {n}' if (n := self.num_objects[name]) != self.num_used[name] else '')
            for name in self.classes
            if self.num_objects[name]
        ]
        yield from textwrap.wrap(
            ', '.join(shares), 100, initial_indent='  used: ', subsequent_indent='    '
        )
        if empty := [name for name in self.classes if not self.num_objects[name]]:
            yield '  ' + textwrap.shorten(f'classes without objects: {", ".join(empty)}', 200)
        for rule, count in self.left_out.most_common():
            yield f'  left out {count:9,}  {rule}, for example {self.examples[rule]}'


def audit(
    path: str,
    content: dict,
    labels: dict[int, str],
    with_mask: bool = False,
    filter_cfg: dict | None = None,
) -> Audit:
    """Count what MMDetection's rules leave of an annotation file.

    Args:
        path (str): The file, for messages.
        content (dict): It, as :class:`~mmdet_atc.datasets.coco_file.CheckedCOCO` has put it in
            order; each annotation has been checked.
        labels (dict[int, str]): Class name of each category id that is a class.
        with_mask (bool): Whether objects without a mask are of no use. Default: False.
        filter_cfg (dict, optional): ``filter_empty_gt`` and ``min_size`` of a training set; None
            keeps all images. Default: None.

    Returns:
        Audit: The counts.

    Raises:
        DataError: If an annotation has a ``category_id`` that the file does not define.
    """
    annotations = content.get('annotations', ())
    images = {image['id']: image for image in content.get('images', ())}
    _check_categories(path, annotations, content.get('categories', ()))
    found = Audit(path, list(labels.values()), len(images))
    num_objects, num_used = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
    of_classes = set()
    for annotation in annotations:
        category, image = annotation['category_id'], annotation['image_id']
        rule = _rule(annotation, images.get(image), category in labels, with_mask)
        if category in labels:
            of_classes.add(image)
            num_objects[category] += 1
            num_used[category] += rule is None
        if rule is not None:
            _note(found, rule, 'annotation', annotation.get(ID_IN_FILE, annotation.get('id')))
    found.num_objects = Counter({name: num_objects[number] for number, name in labels.items()})
    found.num_used = Counter({name: num_used[number] for number, name in labels.items()})
    filter_cfg = filter_cfg or {}
    min_size = filter_cfg.get('min_size', 0)
    for image in images.values():
        if filter_cfg.get('filter_empty_gt') and image['id'] not in of_classes:
            _note(found, 'image without objects of the classes', 'image', image['id'])
        elif min(image['height'], image['width']) < min_size:
            _note(found, f'image smaller than min_size={min_size}', 'image', image['id'])
        else:
            found.num_images_left += 1
    return found


def require_objects(found: Audit, objects: bool, with_mask: bool) -> None:
    """That there is something to train on.

    Args:
        found (Audit): Of the training set.
        objects (bool): Whether images without objects are of no use.
        with_mask (bool): Whether objects without a mask are of no use.

    Raises:
        DataError: If no image is left, or no object and ``objects``; it says by which rules.
    """
    if found.num_images_left and (not objects or found.num_used.total()):
        return
    reasons = ', '.join(
        f'{count} x {rule} (such as {found.examples[rule]})'
        for rule, count in found.left_out.most_common()
    )
    advice = ''
    if with_mask and found.left_out[NO_MASK]:
        advice = (
            '. The model learns masks, which the file lacks: export polygons, or take a detector '
            'of boxes with LoadAnnotations(with_mask=False)'
        )
    raise DataError(
        f'{found.path}: nothing to train on in {found.num_images} images with '
        f'{found.num_objects.total()} objects of the classes: {reasons or "no images"}{advice}'
    )


def _rule(annotation: dict, image: dict | None, is_class: bool, with_mask: bool) -> str | None:
    """Which rule leaves an object out, in the order of MMDetection's; None if none does."""
    if image is None:
        return UNKNOWN_IMAGE
    if not is_class:
        return OTHER_CLASS
    if annotation.get('ignore'):
        return 'marked with ignore'
    x, y, width, height = annotation['bbox']
    if width <= 0 or height <= 0:
        return 'box without area'
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return 'box outside of the image'
    if annotation['area'] <= 0:
        return 'area 0'
    if width < 1 or height < 1:
        return 'box of less than a pixel'
    if annotation.get('iscrowd'):
        return 'crowd'
    if with_mask:
        mask = annotation.get('segmentation')
        if not mask or mask == [[]]:
            return NO_MASK
        if isinstance(mask, list) and not (is_polygon(mask[0]) or any(map(is_polygon, mask))):
            return 'polygon of less than three points'
    return None


def is_polygon(coordinates: list[float]) -> bool:
    """Whether these are ``x, y`` of at least three points."""
    return len(coordinates) >= MIN_COORDINATES and len(coordinates) % 2 == 0


def _note(found: Audit, rule: str, kind: str, number: Any) -> None:
    found.left_out[rule] += 1
    if rule not in found.examples:
        found.examples[rule] = f'{kind} {number}'


def _check_categories(path: str, annotations: Sequence[dict], categories: Sequence[dict]) -> None:
    defined = {category['id'] for category in categories}
    used = {annotation['category_id'] for annotation in annotations}
    undefined = used - defined
    if not undefined:
        return
    example = next(a for a in annotations if a['category_id'] in undefined)
    advice = 'correct the ids, or add the category'
    if all(isinstance(number, int) for number in used | defined):
        shift = min(defined, default=0) - min(used)
        if abs(shift) == 1 and {number + shift for number in used} <= defined:
            advice = f'ids of all annotations are off by one: add {shift} to each'
    raise DataError(
        f'{path}: category_id {example["category_id"]!r} of annotation '
        f'{example.get(ID_IN_FILE, example.get("id"))} is not defined; categories are '
        f'{", ".join(map(repr, list(defined)[:8])) or "missing"}: {advice}'
    )
