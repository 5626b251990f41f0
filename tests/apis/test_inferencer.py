"""Inference by path, by name and by ``hf://``, and what a user gets wrong."""

from __future__ import annotations

import mmcv
import mmdet.apis
import numpy as np
import pytest
import torch

from mmdet_atc.apis import DetInferencer
from mmdet_atc.checkpoints import CheckpointError

from ..tools.micro_runs import dumped, untrained

SHAPES = ('circle', 'rectangle', 'triangle', 'star')
NAMED = 'atc_vit_adapter_t_average_r50'
UNPUBLISHED = 'atc_vit_adapter_micro_shapes'


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """File of the micro config with the small model of the tests of tools."""
    return dumped(tmp_path_factory.mktemp('config'))


@pytest.fixture(scope='module')
def state():
    return untrained()


@pytest.fixture
def checkpoint(state, tmp_path):
    """A file as MMDetection 2.x wrote them, with leftovers of a classifier."""
    leftovers = {'backbone.cls_token': torch.zeros(1, 1, 48)}
    torch.save(dict(meta={}, state_dict={**state, **leftovers}), tmp_path / 'micro.pth')
    return str(tmp_path / 'micro.pth')


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (128, 160, 3), np.uint8)


def found(inferencer, image) -> dict:
    return inferencer(image, pred_score_thr=0)['predictions'][0]


def test_by_path_it_is_what_mmdetection_gives(config, checkpoint, image):
    ours = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    theirs = mmdet.apis.DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    assert len(found(ours, image)['scores']) > 0
    assert found(ours, image) == found(theirs, image)
    # The file does not name its classes: the config does, where MMDetection takes COCO's.
    assert ours.model.dataset_meta['classes'] == SHAPES


def test_a_config_counts_its_classes(config, tmp_path):
    path = tmp_path / 'fruit.py'
    path.write_text(
        f"_base_ = '{config}'\nmetainfo = dict(classes=('apple', 'pear'))\n"
        + '\n'.join(
            f'{loader}_dataloader = dict(dataset=dict(metainfo=metainfo))'
            for loader in ('train', 'val', 'test')
        )
    )
    with pytest.warns(UserWarning, match='randomly initialized') as warned:
        inferencer = DetInferencer(str(path), device='cpu')
    assert not [str(w.message) for w in warned if 'COCO classes' in str(w.message)]
    assert inferencer.model.roi_head.bbox_head.num_classes == 2
    assert inferencer.model.dataset_meta['classes'] == ('apple', 'pear')


def test_weights_from_the_hub(config, checkpoint, image, hub):
    with open(checkpoint, 'rb') as file:
        weights = hub.publish('someone/micro', 'micro.pth', file.read())
    by_hub = DetInferencer(config, weights, device='cpu', show_progress=False)
    by_file = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    assert found(by_hub, image) == found(by_file, image)


def test_by_name_with_the_weights_of_the_model_zoo(monkeypatch):
    asked = []

    def load(filename, map_location=None):
        asked.append(filename)
        raise CheckpointError('enough')

    monkeypatch.setattr('mmengine.infer.infer._load_checkpoint', load)
    for name, weights in ((NAMED, None), (NAMED, 'mine.pth'), (UNPUBLISHED, 'x')):
        with pytest.raises(CheckpointError, match='enough'):
            DetInferencer(name, weights, device='cpu')
    published = 'hf://joakimbh/atc_tiny-coco17-average/atc_tiny-coco17-05-average.pth'
    assert asked == [published, 'mine.pth', 'x']


@pytest.mark.parametrize(
    ('args', 'error', 'message'),
    [
        (['atc_vit_adapter_t_averge_r50'], ValueError, f'did you mean .*{NAMED}'),
        (['yolo'], ValueError, r"neither a config file nor a model 'yolo': MODEL_ZOO\.md"),
        (['vit_adapter_t_global_3x'], ValueError, 'no weights are published for vit_adapter_t'),
        (['no/such.py'], FileNotFoundError, r'no/such\.py'),
    ],
)
def test_wrong_names(args, error, message):
    with pytest.raises(error, match=message):
        DetInferencer(*args, device='cpu')


def test_a_checkpoint_must_fit(config, state, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({k: v for k, v in state.items() if not k.startswith('neck.')}, path)
    with pytest.raises(
        CheckpointError, match=r'other\.pth does not fit the model:\n  missing: neck'
    ):
        DetInferencer(config, str(path), device='cpu')
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        DetInferencer(config, str(tmp_path / 'none.pth'), device='cpu')


def test_the_home_folder_is_followed(config, checkpoint, image, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    mmcv.imwrite(image, str(tmp_path / 'a.png'))
    inferencer = DetInferencer(config, '~/micro.pth', device='cpu', show_progress=False)
    wanted = inferencer(image)['predictions']
    for given in ('~/a.png', ['~/a.png']):
        assert inferencer(given, out_dir='~/out', no_save_pred=False)['predictions'] == wanted
    assert sorted(path.name for path in (tmp_path / 'out').rglob('a.*')) == ['a.json', 'a.png']


def test_what_is_no_image_and_what_would_be_overwritten(config, checkpoint, image, tmp_path):
    inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    one, other = tmp_path / 'a' / '1.png', tmp_path / 'b' / '1.png'
    for path in (one, other):
        mmcv.imwrite(image, str(path))
    assert found(inferencer, one) == found(inferencer, str(one)) == found(inferencer, [one])
    with pytest.raises(TypeError, match='must be a path or a NumPy array, got Tensor'):
        inferencer(torch.from_numpy(image))
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        inferencer(one, batch_size=0)
    with pytest.raises(ValueError, match=r'several are called 1\.png'):
        inferencer([one, other], out_dir=str(tmp_path / 'out'))
    inferencer([one, image], out_dir=str(tmp_path / 'out'), no_save_pred=False)
    assert {p.name for p in (tmp_path / 'out').glob('*/*')} == {
        '1.png', '00000001.jpg', '1.json', '0.json',
    }  # fmt: skip
    jpeg = tmp_path / '1.jpg'
    mmcv.imwrite(image, str(jpeg))
    with pytest.raises(ValueError, match='several are called 1:'):
        inferencer([one, jpeg], out_dir=str(tmp_path / 'out'), no_save_pred=False)
    inferencer([one, jpeg], out_dir=str(tmp_path / 'pictures'))
    assert len(list((tmp_path / 'pictures' / 'vis').iterdir())) == 2


def test_the_images_of_a_folder_are_taken_in_order(config, checkpoint, image, tmp_path):
    inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    folder = tmp_path / 'folder [1]'
    folder.mkdir()
    with pytest.raises(ValueError, match=r'no such image: .*folder \[1\]'):
        inferencer(folder)
    (folder / 'notes.txt').touch()
    draw = np.random.default_rng(1)
    images = {name: draw.permuted(image) for name in ('IMG_1.PNG', 'b.png', 'c.png')}
    for name in ('c.png', 'IMG_1.PNG', 'b.png'):
        mmcv.imwrite(images[name], str(folder / name))
    wanted = [found(inferencer, one) for one in images.values()]
    assert wanted[0] != wanted[1] != wanted[2]
    assert inferencer(str(folder), pred_score_thr=0)['predictions'] == wanted
