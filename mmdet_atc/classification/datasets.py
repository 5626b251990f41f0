"""The paper's classification data sets, and one that is generated.

| name | folder | labels |
| --- | --- | --- |
| imagenet | ``train/CLASS/*``, ``val/CLASS/*`` | one of as many as there are folders |
| nabirds | ``images/`` and ``{images,image_class_labels,train_test_split}.txt`` | one of 555 |
| coco | ``train2014/``, ``val2014/``, ``annotations/instances_{train,val}2014.json`` | any of 80 |
| nuswide | ``nus_wide_data.csv`` of ASL (filepath, label, split_name) and the images | any of 81 |
| textures | none | one of four |
"""

from __future__ import annotations

import ast
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from timm.data import create_transform
from timm.data.auto_augment import rand_augment_transform
from torch.utils.data import Dataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

NAMES = ('imagenet', 'nabirds', 'coco', 'nuswide', 'textures')
MULTI_LABEL = ('coco', 'nuswide')


def build_dataset(name: str, root: str, split: str, transform: Any = None) -> Dataset:
    """A data set of images and labels, with ``num_classes``.

    Args:
        name (str): One of :data:`NAMES`.
        root (str): Its folder, see the table of this module.
        split (str): ``'train'`` or ``'val'``.
        transform (Any, optional): From a PIL image to a tensor. Default: None.

    Raises:
        ValueError: If the name or the split is another word.
        FileNotFoundError: If a file is not there.
    """
    if split not in ('train', 'val'):
        raise ValueError(f"split must be 'train' or 'val', got {split!r}")
    if name == 'textures':
        return Textures(split, transform)
    if name == 'imagenet':
        data = ImageFolder(str(Path(root, split)), transform, loader=_image)
        data.num_classes = len(data.classes)
        return data
    readers = dict(nabirds=_nabirds, coco=_coco, nuswide=_nuswide)
    if name not in readers:
        raise ValueError(f'dataset must be one of {NAMES}, got {name!r}')
    return Listed(*readers[name](Path(root), split == 'train'), transform)


def build_transform(name: str, size: int, training: bool, mean: Any, std: Any) -> Any:
    """The paper's augmentation and evaluation of a data set.

    Args:
        name (str): One of :data:`NAMES`.
        size (int): Side of the images that the model takes.
        training (bool): Whether to augment.
        mean (Sequence[float]): Of the normalisation, with ``std``.
        std (Sequence[float]): See ``mean``.
    """
    usual = dict(input_size=size, interpolation='bicubic', mean=mean, std=std)
    if name == 'textures':
        return T.Compose([T.ToTensor(), T.Normalize(mean, std)])
    if not training and name not in MULTI_LABEL:
        return create_transform(**usual, crop_pct=0.875)
    if not training:
        return create_transform(**usual, crop_pct=1.0, crop_mode='squash')
    rand_augment = 'rand-m9-mstd0.5-inc1'
    if name not in MULTI_LABEL:
        return create_transform(
            **usual,
            is_training=True,
            color_jitter=0.3,
            auto_augment=None if name == 'nabirds' else rand_augment,
            re_prob=0.25,
            re_mode='pixel',
        )
    return T.Compose(
        [
            T.Resize((size, size), T.InterpolationMode.BICUBIC),
            _Cutout(0.5),
            rand_augment_transform(rand_augment, {}),
            T.ToTensor(),
            T.Normalize(mean, std),
        ]
    )


class Listed(Dataset):
    """Images by path with a label each: a class, or a vector of zeros and ones."""

    def __init__(self, samples: list[tuple[Path, Any]], num_classes: int, transform: Any) -> None:
        self.samples = samples
        self.num_classes = num_classes
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        image = _image(path)
        if not isinstance(label, int):
            label = torch.zeros(self.num_classes).index_fill_(0, torch.tensor(label).long(), 1)
        return image if self.transform is None else self.transform(image), label


class Textures(Dataset):
    """64 x 64 images of noise, somewhere in which a disc has one of four faint textures.

    The textures are horizontal, vertical and diagonal stripes and a chessboard.

    Args:
        split (str): ``'train'`` or ``'val'``, of other images.
        transform (Any, optional): From a PIL image to a tensor. Default: None.
        length (int, optional): Number of images; 4,000 and 1,000 by default.
    """

    num_classes = 4

    def __init__(self, split: str, transform: Any = None, length: int | None = None) -> None:
        self.first = 0 if split == 'train' else 1_000_000
        self.length = length or (4000 if split == 'train' else 1000)
        self.transform = transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        draw = torch.Generator().manual_seed(self.first + index)

        def between(low: int, high: int, count: int) -> list[int]:
            return torch.randint(low, high, (count,), generator=draw).tolist()

        label, radius = between(0, 4, 1)[0], between(6, 10, 1)[0]
        center_x, center_y = between(radius, 64 - radius, 2)
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing='ij')
        rows, columns, diagonals = y // 2 % 2, x // 2 % 2, (x + y) // 2 % 2
        texture = (rows, columns, diagonals, (rows + columns) % 2)[label]
        inside = (x - center_x) ** 2 + (y - center_y) ** 2 <= radius**2
        noise = torch.randint(0, 216, (64, 64, 3), generator=draw)
        pixels = noise + 40 * (inside & (texture == 1)).unsqueeze(-1)
        image = Image.fromarray(pixels.to(torch.uint8).numpy())
        return image if self.transform is None else self.transform(image), label


class _Cutout:
    """ASL's CutoutPIL: a box of up to ``factor`` of the side in a random colour."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        center_x, center_y = (int(torch.randint(0, side, ())) for side in (width, height))
        half_x, half_y = (
            round(self.factor * side * float(torch.rand(())) / 2) for side in (width, height)
        )
        color = tuple(torch.randint(0, 256, (3,)).tolist())
        box = (center_x - half_x, center_y - half_y, center_x + half_x, center_y + half_y)
        image = image.copy()
        ImageDraw.Draw(image).rectangle(box, color)
        return image


def _image(path: str | Path) -> Image.Image:
    """RGB; of 16 bits the upper 8, as OpenCV takes them: Pillow makes all above 255 white."""
    with Image.open(path) as image:
        if image.mode.startswith('I;16'):
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert('RGB')
        return image.convert('RGB')


def _nabirds(root: Path, training: bool) -> tuple[list, int]:
    def table(name: str) -> dict[str, str]:
        lines = (root / name).read_text().splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.strip())

    labels, is_train = table('image_class_labels.txt'), table('train_test_split.txt')
    # Classes are numbered among those that have images.
    classes = {name: i for i, name in enumerate(sorted(set(labels.values()), key=int))}
    samples = [
        (root / 'images' / path, classes[labels[image]])
        for image, path in table('images.txt').items()
        if (is_train[image] == '1') == training
    ]
    return samples, len(classes)


def _coco(root: Path, training: bool) -> tuple[list, int]:
    split = 'train2014' if training else 'val2014'
    content = json.loads((root / 'annotations' / f'instances_{split}.json').read_text())
    ids = sorted(category['id'] for category in content['categories'])
    classes = {number: index for index, number in enumerate(ids)}
    labels: dict[int, set[int]] = {image['id']: set() for image in content['images']}
    for annotation in content['annotations']:
        labels[annotation['image_id']].add(classes[annotation['category_id']])
    samples = [
        (root / split / image['file_name'], tuple(sorted(labels[image['id']])))
        for image in content['images']
    ]
    return samples, len(classes)


def _nuswide(root: Path, training: bool) -> tuple[list, int]:
    with open(root / 'nus_wide_data.csv', newline='') as file:
        rows = [
            (row['filepath'], _names(row['label']), row['split_name'])
            for row in csv.DictReader(file)
        ]
    classes = {name: i for i, name in enumerate(sorted({n for _, names, _ in rows for n in names}))}
    samples = [
        (root / path, tuple(sorted(classes[name] for name in names)))
        for path, names, split in rows
        if (split == 'train') == training
    ]
    return samples, len(classes)


def _names(text: str) -> list[str]:
    """``"['sky', 'sea']"`` or ``sky,sea`` as a list."""
    if text.startswith('['):
        return list(ast.literal_eval(text))
    return [name.strip() for name in text.split(',') if name.strip()]
