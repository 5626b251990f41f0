"""What of an annotation file is trained on, and what is left out by which rule."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .coco_file import ID_IN_FILE, is_polygon
from .errors import DataError

UNKNOWN_IMAGE = 'image_id of no image'
NO_MASK = 'no mask'
OTHER_CLASS = 'category not among the classes'


@dataclass
class Audit:
    """Counts of one annotation file, image by image as MMDetection reads it.

    COCO has 860,000 objects: rules are looked at only where something is left out.

    Args:
        path (str): The file.
        content (dict): It, as :class:`~mmdet_atc.datasets.coco_file.CheckedCOCO` has put it in
            order.
        classes (Sequence[str]): Names of the classes.
        with_mask (bool): Whether objects without a mask are of no use. Default: False.
        filter_cfg (dict, optional): ``filter_empty_gt`` and ``min_size`` of a training set; None
            keeps all images. Default: None.
        num_objects (Counter): By class, objects in the file.
        num_used (Counter): By class, objects that are trained on and looked for in evaluation.
        left_out (Counter): By rule, objects (or images) that are not.
        examples (dict): By rule, the id of one of them in the file.
        num_images (int): Images in the file.
        num_images_left (int): Images that training uses.

    Raises:
        DataError: If an annotation has a ``category_id`` that the file does not define.
    """

    path: str
    content: dict = field(repr=False)
    classes: Sequence[str]
    with_mask: bool = False
    filter_cfg: dict | None = None
    num_objects: Counter[str] = field(default_factory=Counter)
    num_used: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    num_images: int = 0
    num_images_left: int = 0

    def __post_init__(self) -> None:
        categories = self.content.get('categories', ())
        annotations = self.content.get('annotations', ())
        _check_categories(self.path, annotations, categories)
        self._class_of = {c['id']: c['name'] for c in categories if c['name'] in self.classes}
        self._labels: list[int] = []
        self._num_annotations = 0

    def add(self, image: dict, annotations: Sequence[dict], instances: Sequence[dict]) -> None:
        """Count an image.

        Args:
            image (dict): Of the file.
            annotations (Sequence[dict]): Its annotations, which have been checked.
            instances (Sequence[dict]): What MMDetection has taken of them.
        """
        self.num_images += 1
        self._num_annotations += len(annotations)
        used = [
            instance['bbox_label']
            for instance in instances
            if not instance['ignore_flag'] and (not self.with_mask or _is_mask(instance['mask']))
        ]
        if len(used) == len(annotations):
            self._labels += used
        else:
            for annotation in annotations:
                self._add_annotation(annotation, image)
        filter_cfg = self.filter_cfg or {}
        min_size = filter_cfg.get('min_size', 0)
        of_classes = used or any(a['category_id'] in self._class_of for a in annotations)
        if filter_cfg.get('filter_empty_gt') and not of_classes:
            self._note('image without objects of the classes', f'image {image["id"]}')
        elif min(image['height'], image['width']) < min_size:
            self._note(f'image smaller than min_size={min_size}', f'image {image["id"]}')
        else:
            self.num_images_left += 1

    def finish(self) -> None:
        """Count what belongs to no image, once all images are there."""
        counts = {self.classes[label]: n for label, n in Counter(self._labels).items()}
        self.num_objects.update(counts)
        self.num_used.update(counts)
        annotations = self.content.get('annotations', ())
        if len(annotations) > self._num_annotations:
            images = {image['id'] for image in self.content['images']}
            for annotation in annotations:
                if annotation['image_id'] not in images:
                    self._add_annotation(annotation, None)

    def _add_annotation(self, annotation: dict, image: dict | None) -> None:
        name = self._class_of.get(annotation['category_id'])
        rule = _rule(annotation, image, name is not None, self.with_mask)
        if name is not None:
            self.num_objects[name] += 1
            self.num_used[name] += rule is None
        if rule is not None:
            self._note(rule, f'annotation {annotation.get(ID_IN_FILE, annotation.get("id"))}')

    def _note(self, rule: str, example: str) -> None:
        self.left_out[rule] += 1
        self.examples.setdefault(rule, example)

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


def require_objects(found: Audit, objects: bool) -> None:
    """Raise unless there is something to train on.

    Args:
        found (Audit): Of the training set.
        objects (bool): Whether images without objects are of no use.

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
    if found.with_mask and found.left_out[NO_MASK]:
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
        if not _is_mask(mask):
            return 'polygon of less than three points'
    return None


def _is_mask(mask: Any) -> bool:
    return isinstance(mask, dict) or is_polygon(mask[0]) or any(map(is_polygon, mask))


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
