"""The generated set is valid COCO and always the same."""

from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmdet_atc.datasets import (
    SHAPES_CLASSES,
    DataError,
    generate_shapes_dataset,
    write_semantic_maps,
)
from mmdet_atc.datasets.shapes_scene import draw_scene


def digest(root) -> dict[str, str]:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return generate_shapes_dataset(tmp_path_factory.mktemp('data') / 'shapes', 40, 21)


def test_same_arguments_give_the_same_bytes(root, tmp_path):
    assert digest(generate_shapes_dataset(tmp_path / 'again', 40, 21)) == digest(root)
    other = digest(generate_shapes_dataset(tmp_path / 'other', 40, 21, seed=1))
    assert set(other) == set(digest(root))
    assert other['train2017/000000000001.png'] != digest(root)['train2017/000000000001.png']


def test_splits_differ(root):
    files = digest(root)
    assert files['train2017/000000000001.png'] != files['val2017/000000000001.png']


@pytest.mark.parametrize(('split', 'count'), [('train2017', 40), ('val2017', 21)])
def test_it_is_valid_coco(root, split, count):
    coco = COCO(str(root / 'annotations' / f'instances_{split}.json'))
    assert len(coco.imgs) == count
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(SHAPES_CLASSES)
    for image in coco.imgs.values():
        pixels = cv2.imread(str(root / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert annotation['area'] == mask.sum() > 0
        rows, cols = np.nonzero(mask)
        x, y, w, h = annotation['bbox']
        assert (x, y) == (cols.min(), rows.min())
        assert (w, h) == (np.ptp(cols) + 1, np.ptp(rows) + 1)


def test_it_has_every_difficulty(root):
    coco = COCO(str(root / 'annotations/instances_train2017.json'))
    annotations = list(coco.anns.values())
    assert {a['category_id'] for a in annotations} == {1, 2, 3, 4}
    assert any(a['iscrowd'] for a in annotations)
    assert all(isinstance(a['segmentation'], dict) == bool(a['iscrowd']) for a in annotations)
    assert any(len(a['segmentation']) > 1 for a in annotations if not a['iscrowd'])
    assert any(not coco.getAnnIds([i]) for i in coco.imgs)
    assert len({(i['height'], i['width']) for i in coco.imgs.values()}) == 4


def test_masks_are_the_visible_parts():
    overlapping = 0
    for index in range(20):
        _, objects = draw_scene(np.random.default_rng(index), 128, 160, index)
        covered = np.zeros((128, 160), dtype=int)
        for thing in objects:
            covered += thing.mask
        assert covered.max(initial=0) <= 1
        overlapping += len(objects) > 1
    assert overlapping > 5


def test_a_complete_set_is_kept_and_another_is_not_overwritten(root):
    before = digest(root)
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob('*.png')}
    generate_shapes_dataset(root, 40, 21)
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*.png')} == stamps
    with pytest.raises(FileExistsError, match='other arguments'):
        generate_shapes_dataset(root, 41, 21)
    assert digest(root) == before


def test_an_interrupted_run_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(json, 'dumps', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        generate_shapes_dataset(tmp_path / 'shapes', 2, 2)
    monkeypatch.undo()
    assert not (tmp_path / 'shapes').exists()
    assert generate_shapes_dataset(tmp_path / 'shapes', 2, 2).is_dir()


def test_foreign_folders_are_not_touched(tmp_path):
    (tmp_path / 'photo.png').write_text('mine')
    with pytest.raises(FileExistsError, match='was not made here'):
        generate_shapes_dataset(tmp_path, 2, 2)
    assert (tmp_path / 'photo.png').read_text() == 'mine'


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_train=0), 'num_train must be a positive integer'),
        (dict(num_val=-1), 'num_val must be a positive integer'),
        (dict(image_sizes=[(32, 128)]), 'image_sizes must be'),
        (dict(image_sizes=[]), 'image_sizes must be'),
    ],
)
def test_bad_arguments_are_refused(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        generate_shapes_dataset(tmp_path / 'shapes', **kwargs)


def test_label_maps_say_of_each_pixel_whose_object_it_is(tmp_path):
    root = generate_shapes_dataset(tmp_path / 'shapes', 1, 8)
    write_semantic_maps(root)
    seen = set()
    for index in range(8):
        labels = cv2.imread(str(root / f'semantic_val2017/{index + 1:012d}.png'), -1)
        height, width = labels.shape
        _, objects = draw_scene(np.random.default_rng([0, 1, index]), height, width, index)
        expected = np.zeros_like(labels)
        for thing in objects:
            expected[thing.mask] = 1 + SHAPES_CLASSES.index(thing.name)
        for label in range(5):  # polygons are rounded at their borders
            inner = cv2.erode(
                (expected == label).astype(np.uint8), np.ones((5, 5)),
                borderType=cv2.BORDER_CONSTANT, borderValue=0,
            )  # fmt: skip
            assert (labels[inner > 0] == label).all()
        seen |= set(np.unique(labels).tolist())
    assert seen == {0, 1, 2, 3, 4}


def test_label_maps_of_images_of_one_name_lie_in_their_folders(tmp_path):
    root = generate_shapes_dataset(tmp_path / 'shapes', 2, 1)
    file = root / 'annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    for image, name in zip(content['images'], ('a/1.jpg', 'b/1.jpg'), strict=True):
        image['file_name'] = name
    file.write_text(json.dumps(content))
    write_semantic_maps(root)
    first, second = (root / f'semantic_train2017/{folder}/1.png' for folder in 'ab')
    assert first.read_bytes() != second.read_bytes()
    content['images'][1]['file_name'] = '../1.jpg'
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"image 2: file_name '../1\.jpg' leads out"):
        write_semantic_maps(root)
