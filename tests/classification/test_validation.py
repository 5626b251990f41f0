"""What the options of ``tools/classification/validate.py`` make of a folder of images."""

from __future__ import annotations

import argparse

import pytest
import timm
import torch
from PIL import Image

from mmdet_atc.checkpoints import install
from mmdet_atc.classification.methods import add_model_options, build_model, transform_of
from mmdet_atc.classification.validation import validate


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """An ImageNet of two classes with one image each."""
    root = tmp_path_factory.mktemp('imagenet')
    for name, color in (('dark', 0), ('bright', 255)):
        path = root / 'val' / name / '1.png'
        path.parent.mkdir(parents=True)
        Image.new('RGB', (90, 70), (color,) * 3).save(path)
    return root


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    parser.set_defaults(device='cpu', checkpoint=None, batch_size=2, limit=None, amp=False)
    return parser.parse_args([*map(str, words), '--workers', '0'])


@pytest.mark.parametrize('training', [False, True], ids=['validation', 'training'])
def test_images_have_the_size_that_is_asked_for(training):
    args = options('any', '--model', 'test_vit', '--img-size', '96')
    transform = transform_of(build_model(args), args, training)
    assert transform(Image.new('RGB', (120, 200))).shape == (3, 96, 96)


def test_images_of_another_size_than_the_models(folder, tmp_path):
    install()
    args = options(folder, '--model', 'test_vit', '--img-size', '96')
    args.checkpoint = str(tmp_path / 'vit.pth')
    torch.save(dict(model=build_model(args, num_classes=2).state_dict()), args.checkpoint)
    assert validate(args)['images'] == 2


def test_pretrained_weights_of_other_classes_are_not_evaluated(folder, monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained, **kw: create(name, **kw))
    with pytest.raises(ValueError, match=r'test_vit is pretrained on 1000 classes, .* has 2: '):
        validate(options(folder, '--model', 'test_vit'))


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--model', 'test_vitt'), r'model test_vitt: Unknown model'),
        (('--model', 'test_resnet'), r"must be one of timm's VisionTransformer, got ResNet"),
        (('--model', 'test_vit', '--global-pool', 'mean'), r'model test_vit: .* pooling'),
    ],
)
def test_models_that_are_none(words, message):
    with pytest.raises(ValueError, match=message):
        build_model(options('any', *words))


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--keep-rates', '1.5'), r'keep_rate must be in \(0, 1\], got 1.5'),
        (('--images', '10'), 'batch_size 64 x accumulate 1 must be at most'),
        (('--out-dir', '/dev/null/here'), '/dev/null/here'),
    ],
)
def test_the_demo_says_what_it_cannot_do_before_it_trains(tmp_path, run_tool, words, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        run_tool('tools/classification/demo.py', '--out-dir', tmp_path, *words)
