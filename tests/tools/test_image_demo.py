"""demo/image_demo.py on files, folders and patterns, and on what is none of them."""

from __future__ import annotations

import json

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from .micro_runs import dumped, untrained

DEMO = 'demo/image_demo.py'
CPU = '--device', 'cpu'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Arguments for a micro detector with random weights."""
    folder = tmp_path_factory.mktemp('model')
    torch.save(dict(state_dict=untrained()), folder / 'micro.pth')
    return ['--config', dumped(folder), '--checkpoint', str(folder / 'micro.pth')]


@pytest.fixture
def images(data, tmp_path):
    """Two folders with an image of the same name, and a file beside it that is no image."""
    for folder, number in (('a', 1), ('b', 2)):
        (tmp_path / folder).mkdir()
        image = (data / 'val2017' / f'00000000000{number}.png').read_bytes()
        (tmp_path / folder / 'x.png').write_bytes(image)
    (tmp_path / 'a' / 'notes.txt').write_text('no image')
    return tmp_path


def enlarged(image: np.ndarray) -> np.ndarray:
    scale = -(-384 // min(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def test_folders_and_patterns_without_overwriting(model, images, run_tool, capsys):
    out = images / 'out'
    sources = [images / 'a', images / 'b' / '*.png', images / 'a' / 'x.png']
    run_tool(DEMO, *sources, *model, *CPU, '--out-dir', out, '--score-thr', 0)
    assert sorted(str(p.relative_to(out)) for p in out.rglob('*.*')) == [
        'preds/a/x.json', 'preds/b/x.json', 'vis/a/x.png', 'vis/b/x.png',
    ]  # fmt: skip
    assert '2 pictures with ' in capsys.readouterr().out

    image = cv2.imread(str(images / 'b' / 'x.png'))
    picture = cv2.imread(str(out / 'vis' / 'b' / 'x.png'))
    found = json.loads((out / 'preds' / 'b' / 'x.json').read_text())
    assert len({len(found[key]) for key in ('bboxes', 'labels', 'masks', 'names', 'scores')}) == 1
    assert set(found['names']) <= {'circle', 'rectangle', 'triangle', 'star'}
    assert coco_mask.decode(found['masks']).shape[:2] == image.shape[:2]
    # Large enough to read the labels; what is drawn is drawn over the image.
    image = enlarged(image)
    assert picture.shape == image.shape
    changed = (image != picture).any(-1)
    assert changed.any()
    untouched = ~cv2.dilate(changed.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert (image[untouched] == picture[untouched]).all()


def test_no_object_above_the_threshold_is_said(model, images, run_tool, capsys):
    options = *model, *CPU, '--out-dir', images / 'o', '--score-thr', 1
    run_tool(DEMO, images / 'a' / 'x.png', *options)
    assert '1 pictures with 0 objects' in (said := capsys.readouterr().out)
    assert 'none scores above --score-thr 1' in said
    if matplotlib.__version_info__ >= (3, 11):  # earlier ones blur what they show
        drawn = cv2.imread(str(images / 'o/vis/x.png'))
        assert (drawn == enlarged(cv2.imread(str(images / 'a/x.png')))).all()


def test_mistakes_end_in_one_line(model, images, tool):
    config, checkpoint = model[:2], model[2:]
    x = images / 'a' / 'x.png'
    assert 'no such image: nowhere/*.jpg' in tool(DEMO, 'nowhere/*.jpg', *model)
    line = tool(DEMO, images / 'a' / 'notes.txt', *model, '--out-dir', images / 'o')
    assert line.endswith('notes.txt cannot be read as an image')
    assert 'no checkpoint at' in tool(DEMO, x, *config, '--checkpoint', 'no.pth')
    assert 'did you mean' in tool(DEMO, x, '--config', 'atc_vit_adapter_t_r50', *checkpoint)
    assert 'no/such.py' in tool(DEMO, x, '--config', 'no/such.py', *checkpoint)


def test_a_config_file_needs_a_checkpoint(model, images, run_tool, capsys):
    with pytest.raises(SystemExit):
        run_tool(DEMO, images / 'a', *model[:2])
    assert '--checkpoint is needed with a config file' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('script', 'drawn'),
    [
        (DEMO, 'vis/x.png'),
        ('tools/analysis_tools/visualize_clusters.py', 'x_clusters.png'),
    ],
)
def test_an_unreadable_image_does_not_end_the_others(model, images, tool, script, drawn):
    pictures = (images / 'a' / 'notes.txt', images / 'a' / 'x.png')
    line = tool(script, *pictures, *model, '--out-dir', images / 'o')
    assert 'notes.txt cannot be read as an image' in line
    assert (images / 'o' / drawn).exists()
