"""The paper's data sets, from folders made in their layouts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmdet_atc.classification.datasets import NAMES, Textures, build_dataset, build_transform


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 30), (200, 100, 50)).save(path)


def test_imagenet(tmp_path):
    for split, count in (('train', 3), ('val', 2)):
        for name in ('n01', 'n02'):
            for i in range(count):
                picture(tmp_path / split / name / f'{i}.jpg')
    data = build_dataset('imagenet', str(tmp_path), 'train')
    assert (len(data), data.num_classes) == (6, 2)
    assert build_dataset('imagenet', str(tmp_path), 'val')[3][1] == 1


@pytest.mark.parametrize('name', ['imagenet', 'nuswide'])
def test_of_16_bit_images_the_upper_8_are_taken(tmp_path, name):
    path = tmp_path / 'train' / 'thing' / 'a.png'
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((30, 40), 200 * 256 + 100, np.uint16)).save(path)
    row = 'filepath,label,split_name\ntrain/thing/a.png,sky,train\n'
    (tmp_path / 'nus_wide_data.csv').write_text(row)
    image, _ = build_dataset(name, str(tmp_path), 'train')[0]
    assert image.getextrema() == ((200, 200),) * 3


def test_nabirds(tmp_path):
    names = ['a-1', 'b-2', 'c-3']
    for name in names:
        picture(tmp_path / 'images' / '0817' / f'{name}.jpg')
    lines = dict(
        images=[f'{n} 0817/{n}.jpg' for n in names],
        image_class_labels=['a-1 817', 'b-2 860', 'c-3 817'],
        train_test_split=['a-1 1', 'b-2 1', 'c-3 0'],
    )
    for name, text in lines.items():
        (tmp_path / f'{name}.txt').write_text('\n'.join(text) + '\n')
    train = build_dataset('nabirds', str(tmp_path), 'train')
    assert train.num_classes == 2
    assert [train[i][1] for i in range(len(train))] == [0, 1]
    assert [label for _, label in build_dataset('nabirds', str(tmp_path), 'val').samples] == [0]


def test_coco(tmp_path):
    picture(tmp_path / 'val2014' / 'one.jpg')
    picture(tmp_path / 'val2014' / 'two.jpg')
    content = dict(
        images=[dict(id=7, file_name='one.jpg'), dict(id=9, file_name='two.jpg')],
        categories=[dict(id=90), dict(id=1), dict(id=13)],
        annotations=[
            dict(image_id=7, category_id=90),
            dict(image_id=7, category_id=1),
            dict(image_id=7, category_id=1),
        ],
    )
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/instances_val2014.json').write_text(json.dumps(content))
    data = build_dataset('coco', str(tmp_path), 'val')
    assert data[0][1].tolist() == [1, 0, 1]
    assert data[1][1].tolist() == [0, 0, 0]


def test_nuswide(tmp_path):
    picture(tmp_path / 'images/a.jpg')
    rows = [
        'filepath,label,split_name',
        "images/a.jpg,\"['sky', 'sea']\",train",
        'images/b.jpg,"[\'cat\']",val',
    ]
    (tmp_path / 'nus_wide_data.csv').write_text('\n'.join(rows) + '\n')
    data = build_dataset('nuswide', str(tmp_path), 'train')
    assert (len(data), data.num_classes) == (1, 3)
    assert data[0][1].tolist() == [0, 1, 1]


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('training', [True, False])
def test_transforms_give_what_the_model_takes(name, training):
    size = 64 if name == 'textures' else 96
    transform = build_transform(name, size, training, (0.5,) * 3, (0.5,) * 3)
    out = transform(Image.new('RGB', (64, 64), (255, 0, 0)))
    assert out.shape == (3, size, size)
    assert out.dtype == torch.float32
    if not training:
        torch.testing.assert_close(out.mean((1, 2)), torch.tensor([1.0, -1, -1]))


def test_several_labels_are_evaluated_on_the_whole_image():
    transform = build_transform('coco', 32, False, (0.0,) * 3, (1.0,) * 3)
    wide = Image.new('RGB', (128, 32))
    wide.paste((255, 255, 255), (120, 0, 128, 32))
    assert transform(wide)[:, :, -1].min() > 0.9
    assert build_transform('imagenet', 32, False, (0.0,) * 3, (1.0,) * 3)(wide).max() == 0


def test_textures_are_drawn_the_same_each_time():
    data = Textures('train', length=20)
    assert data[3][0].tobytes() == data[3][0].tobytes()
    assert data[3][0].tobytes() != Textures('val')[3][0].tobytes()
    assert {label for _, label in data} == {0, 1, 2, 3}
    assert len(list(data)) == 20


def test_unknown_words_are_named(tmp_path):
    with pytest.raises(ValueError, match='split must be'):
        build_dataset('textures', '', 'test')
    with pytest.raises(ValueError, match='dataset must be'):
        build_dataset('cifar', '', 'val')
