"""Images and annotations that one has not made oneself."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

import mmdet_atc  # noqa: F401
from mmdet_atc.datasets import DataError

from .evaluation import evaluated

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]
PACK = dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape'))
SQUARE = [4, 4, 20, 4, 20, 20, 4, 20]


def annotation(**changes) -> dict:
    return {
        'id': 7, 'image_id': 3, 'category_id': 1, 'bbox': [4, 4, 16, 16], 'area': 256,
        'iscrowd': 0, 'segmentation': [SQUARE], **changes,
    }  # fmt: skip


def add(folder, **entries: dict) -> None:
    """Append to the lists of ``a.json``."""
    content = json.loads((folder / 'a.json').read_text())
    for name, entry in entries.items():
        content[name].append(entry)
    (folder / 'a.json').write_text(json.dumps(content))


@pytest.fixture
def make(tmp_path):
    """Build a data set of one image, 32 high and 48 wide unless told otherwise."""
    init_default_scope('mmdet')

    def make(*annotations, image=None, name='a.png', height=32, width=48, **kwargs):
        (tmp_path / 'images').mkdir(exist_ok=True)
        if image is None and '/' not in name:
            image = np.zeros((height, width, 3), np.uint8)
        if isinstance(image, np.ndarray):
            cv2.imwrite(str(tmp_path / 'images' / name), image)
        info = dict(id=3, file_name=name, height=height, width=width)
        content = dict(
            images=[info],
            annotations=list(annotations) or [annotation()],
            categories=[dict(id=1, name='thing')],
        )
        (tmp_path / 'a.json').write_text(json.dumps(content))
        return DATASETS.build(
            dict(
                type='CheckedCocoDataset',
                data_root=str(tmp_path),
                ann_file='a.json',
                data_prefix=dict(img='images'),
                metainfo=dict(classes=('thing',)),
                pipeline=[*LOAD, PACK],
                **kwargs,
            )
        )

    return make


@pytest.mark.parametrize(
    'image',
    [
        np.full((32, 48), 200, np.uint8),
        np.full((32, 48, 4), 200, np.uint8),
        np.full((32, 48), 200 * 256 + 100, np.uint16),
        np.full((32, 48, 3), 200 * 256 + 100, np.uint16),
    ],
    ids=['1 channel', '4 channels', '16 bit', '16 bit colour'],
)
def test_other_pixel_formats_become_8_bit_colour(make, image):
    inputs = make(image=image)[0]['inputs']
    assert inputs.dtype == torch.uint8
    assert inputs.shape == (3, 32, 48)
    assert (inputs == 200).all()


def encoded(kind: str) -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    if kind == 'png':
        return cv2.imencode('.png', pixels)[1].tobytes()
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(kind == 'progressive')]
    content = cv2.imencode('.jpg', pixels, progressive)[1].tobytes()
    if kind == 'thumbnail':  # has markers of its own
        thumbnail = cv2.imencode('.jpg', pixels[:8, :8])[1].tobytes()
        segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
        content = content[:2] + segment + content[2:]
    return content


@pytest.mark.parametrize('kept', [0.5, 0.8, 0.99])
@pytest.mark.parametrize('kind', ['baseline', 'progressive', 'thumbnail', 'png'])
def test_images_that_were_cut_off_are_named(make, tmp_path, kind, kept):
    name, reason = ('a.png', 'failed to load') if kind == 'png' else ('a.jpg', 'was cut off')
    data = make(name=name)
    content = encoded(kind)
    path = tmp_path / 'images' / name
    path.write_bytes(content)
    assert data[0]['inputs'].float().std() > 10
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=rf'image 3 \(.*{name}\): .*{reason}'):
        data[0]


@pytest.mark.parametrize('kind', ['baseline', 'progressive', 'thumbnail'])
@pytest.mark.parametrize('extra', [b'\0', b'made by a camera' * 99, encoded('baseline')])
def test_bytes_after_a_jpeg_are_fine(make, tmp_path, kind, extra):
    data = make(name='a.jpg')
    (tmp_path / 'images' / 'a.jpg').write_bytes(encoded(kind) + extra)
    assert data[0]['inputs'].shape == (3, 32, 48)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_annotations_and_exif_orientation_agree(make, tmp_path, orientation):
    """The stored picture is 32 high and 48 wide, black but for its upper left corner."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:8, :8] = 255
    turned = orientation >= 5
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / 'images').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'images' / 'a.jpg', exif=exif, quality=100)

    as_shown = make(
        name='a.jpg', image='kept', height=48 if turned else 32, width=32 if turned else 48
    )
    assert as_shown[0]['inputs'].shape[1:] == ((48, 32) if turned else (32, 48))
    as_stored = make(name='a.jpg', image='kept')[0]
    assert as_stored['inputs'].shape[1:] == (32, 48)
    assert as_stored['data_samples'].ori_shape == (32, 48)
    if turned:
        assert as_stored['inputs'][:, 2:6, 2:6].min() > 200
    with pytest.raises(DataError, match=r'image 3 .*a.jpg\): the file has .* say 30x48'):
        make(name='a.jpg', image='kept', height=30)[0]


@pytest.mark.parametrize('compressed', [False, True])
def test_crowds_in_run_lengths_are_ignored_regions(make, compressed):
    mask = np.zeros((32, 48), np.uint8, order='F')
    mask[4:20, 4:20] = 1
    flat = mask.flatten('F')
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], flat, [2]]))))
    rle = dict(counts=runs.tolist(), size=[32, 48])
    if compressed:
        rle = coco_mask.encode(mask)
        rle['counts'] = rle['counts'].decode()
    sample = make(annotation(iscrowd=1, segmentation=rle), annotation(id=8))[0]['data_samples']
    assert len(sample.gt_instances) == 1
    assert np.array_equal(sample.ignored_instances.masks.masks[0], mask)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(bbox=[4, 4, float('nan'), 4]), 'bbox of annotation 7 must be four finite numbers'),
        (dict(bbox=[4, 4, 'x', 4]), 'bbox of annotation 7 must be four finite numbers'),
        (dict(bbox=[4, 4, 16]), 'bbox of annotation 7 must be four finite numbers'),
        (dict(bbox=None), 'bbox of annotation 7 must be four finite numbers'),
        (dict(segmentation=[[4, 4, 20, 4, 20, float('inf')]]), 'segmentation of annotation 7'),
        (dict(segmentation='mask'), 'segmentation of annotation 7'),
        (
            dict(segmentation=dict(counts=[1536], size=[48, 32])),
            r'RLE of the image size \[32, 48\]',
        ),
    ],
)
def test_impossible_annotations_are_named(make, changes, message):
    with pytest.raises(DataError, match=f'a.json: image 3: .*{message}'):
        make(annotation(**changes))


@pytest.mark.parametrize(
    'counts',
    [
        [100, 50], [], [0, 1537], [-1, 1537], [767.5, 768.5], [[1536]], [None], None,
        [2**62] * 4 + [1536], 'zzzz', '', 'é', 'P', '0' * 1537,
    ],
)  # fmt: skip
def test_run_lengths_that_do_not_fill_the_image_are_refused(make, counts):
    with pytest.raises(DataError, match=r'run lengths of annotation 7 .* add up to 1536 pixels'):
        make(annotation(segmentation=dict(counts=counts, size=[32, 48])))


@pytest.mark.parametrize('seed', range(8))
def test_compressed_run_lengths_of_any_mask_are_taken(make, seed):
    draw = np.random.default_rng(seed)
    mask = np.asfortranarray(draw.random((32, 48)) < draw.choice([0, 0.02, 0.5, 1]), np.uint8)
    counts = coco_mask.encode(mask)['counts'].decode()
    with pytest.raises(DataError, match='run lengths'):
        make(annotation(segmentation=dict(counts=counts + '1', size=[32, 48])))
    assert len(make(annotation(segmentation=dict(counts=counts, size=[32, 48])))) == 1


@pytest.mark.parametrize('size', [0, -3, 1.5, None, '32'])
def test_impossible_sizes_are_named(make, size):
    with pytest.raises(DataError, match='image 3: height must be a positive number'):
        make(height=size, image='none')


@pytest.mark.parametrize(
    'name', ['../../etc/passwd', '/etc/passwd', 'a/../../../b.png', 'http://example.org/a.png']
)
def test_images_outside_the_data_root_are_refused_unless_asked_for(make, name):
    with pytest.raises(DataError, match=r'image 3: file_name .* leads out of the data root'):
        make(name=name)
    assert make(name=name, allow_outside_root=True).get_data_info(0)['img_path'].endswith(name)


def test_a_misspelt_annotation_file_is_told_from_a_wrong_root(make, tmp_path):
    dataset = make()
    for name, advice in (('b.json', 'there are a.json'), ('no/a.json', 'set the data root')):
        with pytest.raises(DataError, match=f'no annotations at .*{name}: {advice}'):
            type(dataset)(ann_file=str(tmp_path / name), pipeline=[])


def test_a_switch_that_is_no_bool_is_refused(make):
    with pytest.raises(ValueError, match="allow_outside_root must be True or False, got 'no'"):
        make(allow_outside_root='no')


@pytest.mark.parametrize('name', ['../images/a.png', 'sub/../a.png', './a.png', '..a.png'])
def test_paths_that_stay_inside_the_data_root_are_fine(make, name):
    assert len(make(name=name, image='none')) == 1


@pytest.mark.parametrize(
    ('prefix', 'name'),
    [({}, 'images/a.png'), (dict(data_prefix={}), 'images/a.png'),
     (dict(data_prefix=dict(img_path='images')), 'a.png')],
)  # fmt: skip
def test_images_lie_in_the_data_root_unless_told_otherwise(make, tmp_path, prefix, name):
    dataset = make(name='a.png')
    content = json.loads((tmp_path / 'a.json').read_text())
    content['images'][0]['file_name'] = name
    (tmp_path / 'a.json').write_text(json.dumps(content))
    data = type(dataset)(
        ann_file='a.json', data_root=str(tmp_path), metainfo=dict(classes=('thing',)),
        pipeline=LOAD, **prefix,
    )  # fmt: skip
    assert data[0]['img_path'] == str(tmp_path / 'images' / 'a.png')


def test_a_bug_in_a_transform_keeps_its_traceback_and_names_the_image(make, monkeypatch):
    data = make()
    monkeypatch.setattr(data.pipeline.transforms[-1], 'transform', lambda results: {}['oops'])
    with pytest.raises(RuntimeError, match=r"image 3 \(.*a.png\): 'oops'") as error:
        data[0]
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize('mask', [[[4, 4, 20, 20]], [[4, 4]], [[4, 4, 20, 4, 20]], [[]], [], None])
def test_evaluation_ignores_what_training_ignores(make, tmp_path, mask):
    """A perfect detector has AP 1 whether it finds the object without a mask or not."""
    data = make(annotation(segmentation=mask, bbox=[22, 4, 16, 16]), annotation(id=8))
    sample = data[0]['data_samples']
    assert (len(sample.gt_instances), len(sample.ignored_instances)) == (1, 1)
    boxes = [[4, 4, 20, 20], [22, 4, 38, 20]]
    for count in (1, 2):
        found = {3: (boxes[:count], [0] * count)}
        figures = evaluated(tmp_path / 'a.json', found, (32, 48), ('thing',), ['bbox', 'segm'])
        assert figures['coco/bbox_mAP'] == 1
        assert figures['coco/segm_mAP'] == 1


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (('thing', 'other'), "no category 'other', which the classes name; it has thing, third"),
        (('other',), "no category 'other'"),
        (('third', 'thing'), r"write metainfo\['classes'\] as \('thing', 'third'\)"),
    ],
)
def test_classes_are_categories_in_the_order_of_the_file(make, tmp_path, classes, message):
    dataset = make()
    add(tmp_path, categories=dict(id=2, name='third'))
    with pytest.raises(DataError, match=rf'a\.json: .*{message}'):
        type(dataset)(
            ann_file=str(tmp_path / 'a.json'), metainfo=dict(classes=classes), pipeline=[]
        )


@pytest.mark.parametrize('classes', [('other', 'thing'), ('thing', 'fourth')])
def test_an_evaluator_of_other_classes_is_refused_before_the_first_image(make, tmp_path, classes):
    make()
    add(tmp_path, categories=dict(id=2, name='other'))
    metric = METRICS.build(dict(type='CheckedCocoMetric', ann_file=str(tmp_path / 'a.json')))
    with pytest.raises(DataError, match=r'a\.json, which the evaluator reads: '):
        metric.dataset_meta = dict(classes=classes)


def test_objects_of_images_that_were_not_run_are_not_missed(make, tmp_path):
    make()
    image = dict(id=4, file_name='b.png', height=32, width=48)
    add(tmp_path, images=image, annotations=annotation(id=9, image_id=4))
    found = {3: ([[4, 4, 20, 20]], [0])}
    for images, ap in ((found, 1), ({**found, 4: ([], [])}, 0.505)):
        figures = evaluated(tmp_path / 'a.json', images, (32, 48), ('thing',))
        assert figures['coco/bbox_mAP'] == pytest.approx(ap, abs=1e-3)


def test_categories_may_be_sorted_as_in_mmdetection(make, tmp_path):
    make()
    add(tmp_path, categories=dict(id=0, name='other'))
    config = dict(type='CheckedCocoMetric', ann_file=str(tmp_path / 'a.json'))
    metric = METRICS.build(dict(config, sort_categories=True))
    metric.dataset_meta = dict(classes=('other', 'thing'))
    with pytest.raises(DataError, match='another order'):
        METRICS.build(config).dataset_meta = dict(classes=('other', 'thing'))
