"""A small generated instance-segmentation set in COCO's format and folder layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmdet_atc.arguments import check_counts

from .shapes_scene import SHAPES_CLASSES, ShapeObject, draw_scene

STAMP = 'shapes.json'
#: Raise it when the pictures change, so that sets of an older version are not taken for new ones.
_VERSION = 1
IMAGE_SIZES = ((128, 160), (160, 128), (128, 128), (96, 160))


def generate_shapes_dataset(
    out_dir: str | Path,
    num_train: int = 440,
    num_val: int = 80,
    seed: int = 0,
    image_sizes: Sequence[tuple[int, int]] = IMAGE_SIZES,
) -> Path:
    """Write the set, or keep it where the same set is already there.

    Four classes that differ in shape and pattern, not in colour. With occlusion (masks are
    the visible parts, possibly several polygons), crowds (``iscrowd=1``, uncompressed RLE), images
    without objects and several image sizes. The same arguments give the same bytes.

    Args:
        out_dir (str | Path): Gets ``train2017/``, ``val2017/`` and ``annotations/``.
        num_train (int): Training images. Default: 440.
        num_val (int): Validation images, of other seeds. Default: 80.
        seed (int): Which of the sets of this kind. Default: 0.
        image_sizes (Sequence[tuple[int, int]]): Heights and widths in pixels, taken in turn.

    Returns:
        Path: ``out_dir``.

    Raises:
        ValueError: If an argument is out of range.
        FileExistsError: If ``out_dir`` holds something else.
    """
    check_counts(num_train=num_train, num_val=num_val)
    sizes = [tuple(size) for size in image_sizes]
    if not sizes or any(len(size) != 2 or min(size) < 64 for size in sizes):
        raise ValueError(f'image_sizes must be (height, width) pairs of at least 64, got {sizes}')
    out_dir = Path(out_dir)
    arguments = dict(num_train=num_train, num_val=num_val, seed=seed, image_sizes=sizes)
    stamp = json.dumps(dict(version=_VERSION, **arguments))
    if out_dir.exists() and any(out_dir.iterdir()):
        if not (out_dir / STAMP).exists():
            raise FileExistsError(
                f'{out_dir} is not empty and was not made here; choose another folder'
            )
        if (out_dir / STAMP).read_text() == stamp:
            return out_dir
        raise FileExistsError(f'{out_dir} holds a shapes set of other arguments; delete it first')

    # Made beside its place and moved there whole: an interrupted run leaves nothing half done.
    partial = out_dir.with_name(out_dir.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    for split, (name, count) in enumerate((('train2017', num_train), ('val2017', num_val))):
        _write_split(partial, name, count, (seed, split), sizes)
    (partial / STAMP).write_text(stamp)
    if out_dir.exists():
        out_dir.rmdir()
    partial.rename(out_dir)
    return out_dir


def _write_split(
    root: Path, name: str, count: int, seed: tuple[int, int], sizes: Sequence[tuple[int, ...]]
) -> None:
    (root / name).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        height, width = sizes[index % len(sizes)]
        image, objects = draw_scene(np.random.default_rng([*seed, index]), height, width, index)
        file_name = f'{index + 1:012d}.png'
        cv2.imwrite(str(root / name / file_name), image[..., ::-1])
        images.append(dict(id=index + 1, file_name=file_name, height=height, width=width))
        for annotation in _annotations(objects):
            annotations.append(dict(id=len(annotations) + 1, image_id=index + 1, **annotation))
    categories = [
        dict(id=i + 1, name=c, supercategory='shape') for i, c in enumerate(SHAPES_CLASSES)
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    path = root / 'annotations' / f'instances_{name}.json'
    path.write_text(json.dumps(content))


def _annotations(objects: Sequence[ShapeObject]) -> Iterator[dict[str, Any]]:
    """COCO annotations (without ids) of visible objects."""
    for thing in objects:
        segmentation: Any = (_uncompressed_rle if thing.is_crowd else _polygons)(thing.mask)
        if not segmentation:
            continue
        rles = coco_mask.frPyObjects(segmentation, *thing.mask.shape)
        rle = rles if thing.is_crowd else coco_mask.merge(rles)
        yield dict(
            category_id=SHAPES_CLASSES.index(thing.name) + 1,
            segmentation=segmentation,
            area=float(coco_mask.area(rle)),
            bbox=[float(v) for v in coco_mask.toBbox(rle)],
            iscrowd=int(thing.is_crowd),
        )


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask's parts in COCO's flat form; specks of under 3 corners are left out."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return [c.reshape(-1).astype(float).tolist() for c in contours if len(c) >= 3]


def _uncompressed_rle(mask: np.ndarray) -> dict[str, Any]:
    """Column-major run lengths, starting with background, as COCO's crowds have them."""
    flat = mask.flatten(order='F')
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(changes, prepend=0, append=flat.size)
    return dict(counts=counts.tolist(), size=list(mask.shape))
