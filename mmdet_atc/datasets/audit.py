"""What of an annotation file is trained on, and what is left out by which rule."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from .coco_file import CheckedCOCO, is_polygon, name_of
from .errors import DataError

NO_MASK = 'no mask'


class Audit:
    """Counts of one annotation file, by the rules of MMDetection.

    Args:
        file (CheckedCOCO): The file.
        classes (Sequence[str]): Names of the classes.
        with_mask (bool): Whether objects without a mask are of no use. Default: False.
        filter_cfg (dict, optional): ``filter_empty_gt`` and ``min_size`` of a training set; None
            keeps all images. Default: None.

    Attributes:
        num_objects (Counter): By class, objects in the file.
        num_used (Counter): By class, objects that are trained on and looked for in evaluation.
        left_out (Counter): By rule, objects (or images) that are not.
        examples (dict): By rule, the id of one of them in the file.
        num_images (int): Images in the file.
        num_images_left (int): Images that training uses.
    """

    def __init__(
        self,
        file: CheckedCOCO,
        classes: Sequence[str],
        with_mask: bool = False,
        filter_cfg: dict | None = None,
    ) -> None:
        self.name = file.name
        self.classes = classes
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.num_images = self.num_images_left = len(file.imgs)
        self._with_mask = with_mask
        self._filters_empty = bool((filter_cfg or {}).get('filter_empty_gt'))

        min_size = (filter_cfg or {}).get('min_size', 0)
        of_classes = {c['id']: c['name'] for c in file.cats.values() if c['name'] in classes}
        images_of = {name: file.catToImgs.get(number, ()) for number, name in of_classes.items()}
        self.num_objects = Counter({name: len(images) for name, images in images_of.items()})
        self.num_used = self.num_objects.copy()
        # COCO has 860,000 objects: only those that are left out are counted here.
        for annotation in file.anns.values():
            image = file.imgs.get(annotation['image_id'])
            name = of_classes.get(annotation['category_id'])
            rule = _rule(annotation, image, name is not None, with_mask)
            if rule is not None:
                self._leave_out(rule, name_of(annotation))
                if name is not None:
                    self.num_used[name] -= 1
        with_objects = set().union(*images_of.values())
        for image in file.imgs.values():
            rule = None
            if self._filters_empty and image['id'] not in with_objects:
                rule = 'image without objects of the classes'
            elif min(image['height'], image['width']) < min_size:
                rule = f'image smaller than min_size={min_size}'
            if rule is not None:
                self._leave_out(rule, f'image {image["id"]}')
                self.num_images_left -= 1

    def _leave_out(self, rule: str, example: str) -> None:
        self.left_out[rule] += 1
        self.examples.setdefault(rule, example)

    @property
    def lost(self) -> list[str]:
        """Classes that have objects in the file, none of which is used."""
        return [name for name in self.classes if self.num_objects[name] and not self.num_used[name]]

    def require_objects(self) -> None:
        """Raise ``DataError``, with the rules, unless there is something to train on."""
        if self.num_images_left and (not self._filters_empty or self.num_used.total()):
            return
        reasons = ', '.join(
            f'{count} x {rule} (such as {self.examples[rule]})'
            for rule, count in self.left_out.most_common()
        )
        advice = ''
        if self._with_mask and self.left_out[NO_MASK]:
            advice = (
                '. The model learns masks, which the file lacks: export polygons, or take a '
                'detector of boxes with LoadAnnotations(with_mask=False)'
            )
        raise DataError(
            f'{self.name}: nothing to train on in {self.num_images} images with '
            f'{self.num_objects.total()} objects of the classes: {reasons or "no images"}{advice}'
        )

    def __str__(self) -> str:
        return '\n'.join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f'{self.name}: {self.num_images} images ({self.num_images_left} used), '
            f'{self.num_objects.total()} objects of {len(self.classes)} classes '
            f'({self.num_used.total()} used)'
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


def _rule(annotation: dict, image: dict | None, is_class: bool, with_mask: bool) -> str | None:
    """Which rule leaves an object out, in the order of MMDetection's; None if none does."""
    if image is None:
        return 'image_id of no image'
    if not is_class:
        return 'category not among the classes'
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
    if annotation['iscrowd']:
        return 'crowd'
    mask = annotation['segmentation']
    if not with_mask or isinstance(mask, dict) or is_polygon(mask[0]) or any(map(is_polygon, mask)):
        return None
    return NO_MASK if mask == [[]] else 'polygon of less than three points'
