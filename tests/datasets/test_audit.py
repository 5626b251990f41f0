"""Nothing of an annotation file is silently dropped, merged or misnamed."""

from __future__ import annotations

import copy
import json
import logging

import pytest
from mmdet.registry import DATASETS, METRICS
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import mmdet_atc  # noqa: F401
from mmdet_atc.datasets import DataError
from mmdet_atc.datasets.coco_file import CheckedCOCO

from .evaluation import evaluated

CLASSES = ('apple', 'pear')
FILTER = dict(filter_empty_gt=True, min_size=32)
MASKS = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
BOXES = [dict(type='LoadAnnotations', with_bbox=True)]


def content() -> dict:
    """Three images, in each an apple and a pear, side by side."""
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', height=64, width=96) for i in (1, 2, 3)],
        annotations=[
            dict(
                id=2 * i + label, image_id=i, category_id=label + 1, area=400, iscrowd=0,
                bbox=[x, 8, 20, 20], segmentation=[[x, 8, x + 20, 8, x + 20, 28, x, 28]],
            )
            for i in (1, 2, 3)
            for label, x in enumerate((8, 48))
        ],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    )  # fmt: skip


@pytest.fixture
def make(tmp_path):
    init_default_scope('mmdet')

    def make(file: dict, classes=CLASSES, pipeline=MASKS, **kwargs):
        path = tmp_path / 'a.json'
        path.write_text(json.dumps(file))
        return DATASETS.build(
            dict(
                type='CheckedCocoDataset',
                ann_file=str(path),
                data_prefix=dict(img='images'),
                metainfo=dict(classes=classes),
                pipeline=pipeline,
                **{'filter_cfg': FILTER, **kwargs},
            )
        )

    return make


@pytest.fixture
def log(make):
    """What was logged, as text, and the levels."""
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)

    handler = Handler()
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def text(records) -> str:
    return '\n'.join(r.getMessage() for r in records if r.levelno >= logging.INFO)


def instances(data) -> list[list[int]]:
    """Labels of the objects that are trained on, by image."""
    return [
        [i['bbox_label'] for i in data.get_data_info(k)['instances'] if not i['ignore_flag']]
        for k in range(len(data))
    ]


@pytest.mark.parametrize(
    ('change', 'rule'),
    [
        (dict(segmentation=[]), 'no mask'),
        (dict(segmentation=None), 'no mask'),
        (dict(segmentation=[[8, 8, 20, 20]]), 'polygon of less than three points'),
        (dict(iscrowd=1), 'crowd'),
        (dict(iscrowd=True), 'crowd'),
        (dict(iscrowd='1'), 'crowd'),
        (dict(area=0), 'area 0'),
        (dict(bbox=[8, 8, 0, 0]), 'box without area'),
        (dict(bbox=[8, 8, 20, 0.5]), 'box of less than a pixel'),
        (dict(bbox=[96, 8, 20, 20]), 'box outside of the image'),
        (dict(image_id=77), 'image_id of no image'),
        (dict(category_id=3), 'category not among the classes'),
        (dict(ignore=True), 'marked with ignore'),
    ],
)
def test_what_is_left_out_is_counted_by_its_rule(make, log, change, rule):
    file = content()
    file['categories'].append(dict(id=3, name='plate'))
    for annotation in file['annotations'][:3]:
        annotation.update(change)
    make(file)
    assert f'left out         3  {rule}, for example annotation 2' in text(log)


def test_the_table_counts_what_the_data_set_holds(make, log):
    file = content()
    file['annotations'][0]['area'] = 0
    file['annotations'][1]['iscrowd'] = 1
    file['annotations'][5]['bbox'] = [8, -30, 20, 20]
    data = make(file)
    assert instances(data) == [[], [0, 1], [0]]
    lines = text(log).splitlines()
    assert lines[0].endswith('a.json: 3 images (3 used), 6 objects of 2 classes (3 used)')
    assert lines[1].strip() == 'used: apple 2 of 3, pear 1 of 3'


def test_a_clean_file_has_no_rules_and_no_warning(make, log):
    make(content())
    assert 'left out' not in text(log)
    assert max(record.levelno for record in log) == logging.INFO


def test_a_class_that_lost_all_is_named(make, log):
    file = content()
    for annotation in file['annotations'][1::2]:
        annotation['segmentation'] = []
    make(file)
    warned = [record for record in log if record.levelno == logging.WARNING]
    assert 'all objects of pear are left out' in text(warned)
    with pytest.raises(DataError, match='all objects of pear are left out'):
        make(file, audit='strict')
    make(file, pipeline=BOXES, audit='strict')  # boxes are all that is learnt


def test_a_class_without_objects_is_a_line_and_no_error(make, log):
    file = content()
    file['categories'].append(dict(id=3, name='fig'))
    make(file, classes=(*CLASSES, 'fig'), audit='strict')
    assert '  classes without objects: fig' in text(log)


def test_an_audit_of_another_kind_is_refused(make):
    with pytest.raises(ValueError, match=r"audit must be one of .*, got 'loose'"):
        make(content(), audit='loose')


def test_indices_are_no_error(make):
    file = content()
    for annotation in file['annotations'][:2]:
        annotation['area'] = 0
    assert instances(make(file, indices=1)) == [[]]
    assert len(make(content(), indices=[0, 2])) == 2


@pytest.mark.parametrize(
    ('change', 'rule'),
    [
        (lambda file: file['annotations'].clear(), 'image without objects of the classes'),
        (lambda file: file['images'].clear(), 'image_id of no image'),
        (lambda file: [a.update(area=0) for a in file['annotations']], 'area 0'),
        (lambda file: [a.update(iscrowd=1) for a in file['annotations']], 'crowd'),
        (lambda file: [a.update(segmentation=[]) for a in file['annotations']], 'masks, which'),
        (lambda file: [i.update(height=31) for i in file['images']], 'smaller than min_size=32'),
    ],
)
def test_nothing_to_train_on_is_an_error_with_the_reason(make, change, rule):
    file = content()
    change(file)
    with pytest.raises(DataError, match=f'a.json: nothing to train on .*{rule}'):
        make(file)


def test_an_undefined_category_is_an_error(make):
    file = content()
    file['annotations'][3]['category_id'] = 9
    with pytest.raises(DataError, match=r'category_id 9 of annotation 5 is not defined; .* 1, 2'):
        make(file)


@pytest.mark.parametrize('shift', [-1, 1])
def test_ids_off_by_one_are_named_as_that(make, shift):
    file = content()
    for annotation in file['annotations']:
        annotation['category_id'] += shift
    with pytest.raises(DataError, match=f'off by one: add {-shift} to each'):
        make(file)


@pytest.mark.parametrize('kind', ['images', 'categories'])
def test_an_id_for_two_is_an_error(make, kind):
    file = content()
    file[kind][1]['id'] = 1
    with pytest.raises(DataError, match=r'id 1 is there 2 times \((1.png, 2.png|apple, pear)\)'):
        make(file)


@pytest.mark.parametrize('value', [2, 'yes', -1])
def test_a_crowd_is_0_or_1(make, value):
    file = content()
    file['annotations'][0]['iscrowd'] = value
    with pytest.raises(DataError, match='iscrowd of annotation 2 must be 0 or 1'):
        make(file)


@pytest.mark.parametrize(
    ('kind', 'key', 'value', 'message'),
    [
        ('images', 'id', None, 'id of image None must be a number or a name, got None'),
        ('images', 'id', 'x', "some image ids are numbers and some are names, such as 'x'"),
        ('images', 'file_name', ['x'], r"image 3: file_name must be a path, got \['x'\]"),
        ('categories', 'name', None, 'category 2 has no name, got None'),
        ('annotations', 'image_id', [3], r'image_id of annotation 7 must be .*, got \[3\]'),
        ('annotations', 'category_id', 1.5, 'category_id of annotation 7 must be .*, got 1.5'),
    ],
)
def test_what_is_neither_number_nor_name_is_named(make, kind, key, value, message):
    file = content()
    file[kind][-1][key] = value
    with pytest.raises(DataError, match=f'a.json: {message}'):
        make(file)


@pytest.mark.parametrize(
    ('kind', 'key', 'name'),
    [
        ('images', 'id', 'image number 3'),
        ('images', 'height', 'image 3'),
        ('categories', 'id', 'category number 2'),
        ('annotations', 'image_id', 'annotation 7'),
        ('annotations', 'category_id', 'annotation 7'),
        ('annotations', 'bbox', 'image 3: annotation 7'),
    ],
)
def test_what_is_missing_is_named(make, kind, key, name):
    file = content()
    del file[kind][-1][key]
    with pytest.raises(DataError, match=f"a.json: {name} has no '{key}'"):
        make(file)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('[]', 'annotation file format'),
        ('{"annotations": []}', "no 'images'"),
        ('{"images": [1]}', 'int'),
    ],
)
def test_other_files_are_named_whoever_reads_them(make, tmp_path, text, reason):
    make(content())
    path = tmp_path / 'a.json'
    path.write_text(text)
    for config in (
        dict(type='CheckedCocoDataset', metainfo=dict(classes=CLASSES), pipeline=[]),
        dict(type='CheckedCocoMetric'),
    ):
        registry = METRICS if 'Metric' in config['type'] else DATASETS
        with pytest.raises(DataError, match=rf'a\.json.* is no COCO annotation file: .*{reason}'):
            registry.build(dict(config, ann_file=str(path)))


def test_annotations_of_images_that_are_not_there_may_be_anything(make, log):
    file = content()
    file['annotations'][0].update(image_id=77, bbox=['x'], segmentation='mask')
    make(file)
    assert 'image_id of no image, for example annotation 2' in text(log)


def strings(file: dict) -> None:
    """Ids as strings."""
    for image in file['images']:
        image['id'] = str(image['id'])
    for category in file['categories']:
        category['id'] = f'0{category["id"]}'
    for annotation in file['annotations']:
        for key in ('id', 'image_id', 'category_id', 'iscrowd'):
            annotation[key] = str(annotation[key])


def strings_in_annotations(file: dict) -> None:
    for annotation in file['annotations']:
        annotation.update(
            image_id=str(annotation['image_id']), category_id=str(annotation['category_id'])
        )


def from_zero(file: dict) -> None:
    for entry in (*file['images'], *file['categories']):
        entry['id'] -= 1
    for number, annotation in enumerate(file['annotations']):
        annotation['id'] = number
        annotation['image_id'] -= 1
        annotation['category_id'] -= 1


def root_category(file: dict) -> None:
    file['categories'].insert(0, dict(id=0, name='apple', supercategory='none'))


def root_category_of_another_name(file: dict) -> None:
    file['categories'].insert(0, dict(id=0, name='fruit', supercategory='none'))


def no_crowd(file: dict) -> None:
    for annotation in file['annotations'][::2]:
        del annotation['iscrowd']
    file['annotations'][1]['iscrowd'] = None


def float_sizes(file: dict) -> None:
    for image in file['images']:
        image.update(height=64.0, width=96.0)


def same_annotation_ids(file: dict) -> None:
    for annotation in file['annotations']:
        annotation['id'] = 5


def no_ids(file: dict) -> None:
    for annotation in file['annotations']:
        del annotation['id']


def float_ids(file: dict) -> None:
    for image in file['images']:
        image['id'] = float(image['id'])
    for annotation in file['annotations']:
        for key in ('id', 'image_id', 'category_id', 'iscrowd'):
            annotation[key] = float(annotation[key])


def names_as_ids(file: dict) -> None:
    for image in file['images']:
        image['id'] = f'image-{image["id"]}'
    for annotation in file['annotations']:
        annotation.update(id=f'a{annotation["id"]}', image_id=f'image-{annotation["image_id"]}')


def no_area(file: dict) -> None:
    for annotation in file['annotations'][::2]:
        del annotation['area']
    file['annotations'][1]['area'] = None


def boxes_alone(file: dict) -> None:
    for annotation in file['annotations']:
        annotation['segmentation'] = []


def cvat(file: dict) -> None:
    file.update(info=dict(), licenses=[dict(name='', id=0, url='')])
    for image in file['images']:
        image.update(license=0, flickr_url='', coco_url='', date_captured=0)
    for category in file['categories']:
        category['supercategory'] = ''
    for annotation in file['annotations']:
        annotation['attributes'] = dict(occluded=False, rotation=0.0)


def fiftyone(file: dict) -> None:
    for category in file['categories']:
        category.update(id=category['id'] - 1, supercategory=None)
    for annotation in file['annotations']:
        annotation['category_id'] -= 1
        del annotation['iscrowd'], annotation['segmentation']


def label_studio(file: dict) -> None:
    from_zero(file)
    boxes_alone(file)
    for annotation in file['annotations']:
        annotation.update(ignore=0, iscrowd=0, bbox=[float(x) for x in annotation['bbox']])


def labelme(file: dict) -> None:
    file['categories'].insert(0, dict(id=0, name='_background_', supercategory=None))
    for annotation in file['annotations']:
        annotation.update(area=400.0, bbox=[float(x) for x in annotation['bbox']])


def roboflow(file: dict) -> None:
    from_zero(file)
    boxes_alone(file)
    for entry in file['categories']:
        entry.update(id=entry['id'] + 1, supercategory='apple')
    file['categories'].insert(0, dict(id=0, name='apple', supercategory='none'))
    for annotation in file['annotations']:
        annotation['category_id'] += 1


def via(file: dict) -> None:
    strings_in_annotations(file)
    for number, annotation in enumerate(file['annotations']):
        annotation.update(id=number, segmentation=annotation['segmentation'][0])
    for image in file['images']:
        image['id'] = str(image['id'])


@pytest.mark.parametrize(
    'spelling',
    [
        strings, strings_in_annotations, from_zero, root_category, root_category_of_another_name,
        no_crowd, float_sizes, float_ids, same_annotation_ids, no_ids, names_as_ids, no_area,
        cvat, fiftyone, label_studio, labelme, roboflow, via,
    ],
)  # fmt: skip
def test_other_spellings_are_trained_on_and_evaluated_alike(make, tmp_path, spelling):
    """All objects are there, and a perfect detector has AP 1."""
    file = content()
    spelling(file)
    has_masks = any(annotation.get('segmentation') for annotation in file['annotations'])
    data = make(file, pipeline=MASKS if has_masks else BOXES)
    assert instances(data) == [[0, 1]] * 3
    metrics = ['bbox', 'segm'] if has_masks else ['bbox']
    infos = [data.get_data_info(index) for index in range(len(data))]
    found = {
        info['img_id']: tuple([i[key] for i in info['instances']] for key in ('bbox', 'bbox_label'))
        for info in infos
    }
    figures = evaluated(tmp_path / 'a.json', found, (64, 96), CLASSES, metrics)
    for name in metrics:
        assert figures[f'coco/{name}_mAP'] == 1


def test_categories_of_one_name_that_both_have_objects_are_refused(make):
    file = content()
    file['categories'][1]['name'] = 'apple'
    with pytest.raises(DataError, match="categories 1 and 2 are both named 'apple'"):
        make(file, classes=('apple',))


def in_order(file: dict) -> CheckedCOCO:
    """The API on a file that has been read, whose content is changed."""
    coco = CheckedCOCO()
    coco.dataset = file
    coco.createIndex()
    return coco


def test_a_name_given_twice_must_not_shift_the_others():
    coco = in_order(content())
    assert coco.get_cat_ids(('apple', 'pear', 'pear')) == [1, 2]
    with pytest.raises(DataError, match='another order'):
        coco.get_cat_ids(('apple', 'apple', 'pear'))


def test_putting_in_order_twice_changes_nothing():
    file = content()
    from_zero(file)
    in_order(file)
    once = copy.deepcopy(file)
    in_order(file)
    assert file == once


@pytest.mark.parametrize(('spelling', 'name'), [(same_annotation_ids, 5), (no_ids, 'number 5')])
def test_annotations_are_named_by_the_id_of_the_file(make, log, spelling, name):
    file = content()
    spelling(file)
    file['annotations'][4]['area'] = 0
    make(file)
    assert f'area 0, for example annotation {name}\n' in text(log) + '\n'


def test_rules_count_images_and_objects_of_no_image_too(make, log):
    file = content()
    file['images'].append(dict(id=9, file_name='9.png', height=20, width=96))
    for annotation in file['annotations'][:2]:
        annotation['image_id'] = 9
    file['annotations'][2]['image_id'] = 77
    make(file)
    lines = text(log)
    assert '4 images (2 used), 6 objects of 2 classes (5 used)' in lines
    assert 'left out         1  image smaller than min_size=32, for example image 9' in lines
    assert 'left out         1  image without objects of the classes, for example image 1' in lines
    assert 'left out         1  image_id of no image, for example annotation 4' in lines


@pytest.mark.parametrize(
    ('mask', 'area'),
    [
        ([[8, 8, 28, 8, 8, 28]], 200),  # a triangle, half of its box
        ([[8, 8, 28, 8, 8, 28], [8, 8]], 200),
        (dict(size=[64, 96], counts=[100, 30, 64 * 96 - 130]), 30),
        ([], 400),
        ([[8, 8, 28, 28]], 400),
        (None, 400),
    ],
)
@pytest.mark.parametrize('spelling', [dict(area=None), {}], ids=['null', 'missing'])
def test_an_area_that_is_not_given_is_the_masks_or_the_boxes(mask, area, spelling):
    file = content()
    annotation = file['annotations'][0]
    del annotation['area']
    annotation.update(spelling, segmentation=mask)
    coco = in_order(file)
    assert coco.anns[2]['area'] == pytest.approx(area, abs=15)  # of whole pixels
    assert coco.anns[3]['area'] == 400


@pytest.mark.parametrize('area', ['400', float('nan'), [400]])
def test_an_area_that_is_no_number_is_refused(make, area):
    file = content()
    file['annotations'][0]['area'] = area
    with pytest.raises(DataError, match='area of annotation 2 must be a finite number'):
        make(file)
