"""Training learns, resumes to the same weights, and files load in the tool that evaluates."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.utils.data import TensorDataset

from mmdet_atc.checkpoints import CheckpointError, install
from mmdet_atc.classification.checkpoints import load_classifier
from mmdet_atc.classification.evaluation import evaluate
from mmdet_atc.classification.training import Recipe, Trainer
from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import keep_rate_plan

from ..tools.processes import run, run_together

QUICK = Recipe(
    epochs=4,
    warmup_epochs=1,
    lr=0.2,
    batch_size=8,
    accumulate=2,
    mixup=0,
    cutmix=0,
    ema=0.8,
    amp=False,
)


@pytest.fixture(autouse=True)
def _installed():
    install()


def model() -> VisionTransformer:
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=2
    )
    return apply_merging(vit, dict(linkage='average'), keep_rate_plan(0.5, (0,), of='initial'))


def data(multi_label: bool = False) -> TensorDataset:
    """Dark and bright images."""
    labels = torch.arange(64) % 2
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    images = images + 2 * labels.reshape(-1, 1, 1, 1) - 1
    targets = torch.stack([labels, 1 - labels], dim=1).float() if multi_label else labels
    return TensorDataset(images, targets)


def trainer(recipe: Recipe = QUICK, multi_label: bool = False) -> Trainer:
    return Trainer(model(), data(multi_label), data(multi_label), 2, recipe, multi_label, workers=0)


@pytest.mark.parametrize(
    ('change', 'multi_label'),
    [({}, False), (dict(mixup=0.8, cutmix=1.0), False), ({}, True), (dict(amp=True), False)],
    ids=['plain', 'mixup', 'several labels', 'mixed precision'],
)
def test_learns(tmp_path, change, multi_label):
    one = trainer(Recipe(**{**vars(QUICK), **change}), multi_label)
    found = list(one.run(tmp_path, argparse.Namespace()))
    assert len(found) == 4
    assert one.best > 95
    assert one.model.token_clusters[0].num_clusters == 8
    assert one.ema.module is not one.model


@pytest.mark.parametrize('mixed', [False, True], ids=['plain', 'mixup'])
def test_interrupted_training_ends_with_the_same_weights(tmp_path, mixed):
    recipe = Recipe(**{**vars(QUICK), **(dict(mixup=0.8, cutmix=1.0) if mixed else {})})
    whole = trainer(recipe)
    list(whole.run(tmp_path, argparse.Namespace()))
    first = trainer(recipe)
    (tmp_path / 'parts').mkdir()
    for found in first.run(tmp_path / 'parts', argparse.Namespace(model='micro')):
        assert found.images == 64
        if first.epoch == 2:
            break
    second = trainer(recipe)
    second.resume(tmp_path / 'parts' / 'last.pth')
    assert second.epoch == 2
    # A path is kept as text: files hold no code.
    list(second.run(tmp_path / 'parts', argparse.Namespace(model=Path('micro'))))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    loaded = model()
    assert load_classifier(loaded, str(tmp_path / 'parts' / 'last.pth')) == dict(model='micro')
    better = second.ema.module if second.ema_best else second.model
    expected = copy.deepcopy(better.state_dict())
    assert all(torch.equal(t, expected[name]) for name, t in loaded.state_dict().items())


def test_learning_rate_rises_and_falls(tmp_path):
    one, rates = trainer(), []
    step = one.optimizer.step
    one.optimizer.step = lambda *a, **k: (
        rates.append(one.optimizer.param_groups[0]['lr']),
        step(*a, **k),
    )
    list(one.run(tmp_path, argparse.Namespace()))
    assert len(rates) == 16
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) == rates[4] == pytest.approx(0.2 * 16 / 1024, rel=0.2)
    assert rates[-1] < rates[4] / 10


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match='batch_size 64 x accumulate 2'):
        trainer(Recipe(**{**vars(QUICK), 'batch_size': 64}))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(epochs=0), 'epochs must be at least 1, got 0'),
        (dict(accumulate=0), 'accumulate must be at least 1, got 0'),
        (dict(batch_size=7, mixup=0.8), 'batch_size must be even with mixup or cutmix, got 7'),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        trainer(Recipe(**{**vars(QUICK), **change}))


def test_validation_of_other_classes_is_refused():
    train_data, val_data = data(), data()
    train_data.classes, val_data.classes = ['ant', 'bee', 'cat'], ['ant', 'cat']
    with pytest.raises(ValueError, match=r"only one of them has \['bee'\]"):
        Trainer(model(), train_data, val_data, 3, QUICK, workers=0)


def test_another_file_is_not_resumed(tmp_path):
    path, one = tmp_path / 'last.pth', trainer(Recipe(**{**vars(QUICK), 'ema': 0}))
    torch.save(dict(model=one.model.state_dict()), path)
    with pytest.raises(CheckpointError, match=r"lacks \['best', 'epoch', 'optimizer', 'scaler'\]"):
        one.resume(path)
    next(one.run(tmp_path, argparse.Namespace()))
    with pytest.raises(CheckpointError, match='model_ema'):
        trainer().resume(path)
    one.model.head = torch.nn.Linear(32, 3)
    with pytest.raises(CheckpointError, match='does not fit the model'):
        one.resume(path)


def test_a_kill_between_the_two_files_loses_nothing(tmp_path, monkeypatch):
    one, written = trainer(), []
    monkeypatch.setattr(one, '_save', lambda path, args: written.append(path.name))
    next(one.run(tmp_path, argparse.Namespace()))
    assert written == ['best.pth', 'last.pth']


def test_evaluation_counts_and_times():
    loader = torch.utils.data.DataLoader(data(), 16)
    found = evaluate(model(), loader, torch.device('cpu'))
    assert found.images == 64
    assert found.images_per_second > 0
    only = evaluate(model(), torch.utils.data.DataLoader(data(), 64), torch.device('cpu'))
    assert only.images_per_second > 0
    with pytest.raises(ValueError, match='no images'):
        evaluate(model(), [], torch.device('cpu'))


def test_top_1_is_in_percent():
    logits = torch.tensor([[2.0, 1], [0, 3], [5, 4], [1, 2]])
    batches = [(logits[:3], torch.tensor([0, 1, 1])), (logits[3:], torch.tensor([1]))]
    found = evaluate(torch.nn.Identity(), batches, torch.device('cpu'))
    assert (found.metric, found.value) == ('top-1', 75)


def test_tools(tmp_path):
    merging = ('--method', 'average', '--keep-rate', '0.5', '--merge-blocks', '1', '2', '3')
    alone = ('--workers', '0')
    usual = ('any', '--dataset', 'textures', '--model', 'test_vit', '--img-size', '64')
    train = (
        'tools/classification/train.py', *usual, '--scratch', '--out-dir', str(tmp_path),
        '--device', 'cpu', '--warmup-epochs', '0', '--batch-size', '500', '--no-amp', *merging,
        *alone,
    )  # fmt: skip
    run_together(tmp_path, 2, *train, '--epochs', '1')
    run(tmp_path, *train, '--epochs', '2', '--resume')
    log = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['epoch'] for line in log] == [1, 2]
    validate = ('tools/classification/validate.py', *usual)
    checkpoint = ('--checkpoint', str(tmp_path / 'last.pth'))
    file = tmp_path / 'new' / 'found.json'
    out = run(
        tmp_path, *validate, *checkpoint, *merging, *alone, '--limit', '200', '--out', str(file)
    )
    result = json.loads(out.stdout.splitlines()[-1])
    assert json.loads(file.read_text()) == result
    assert result['merging'] == 'average r=0.5'
    assert result['images'] == 200
    assert result['tokens_per_block'][0] == 17
    out = run(tmp_path, *validate, *checkpoint, '--method', 'average', check=False)
    assert out.returncode == 1
    assert out.stderr.splitlines()[-1].startswith('error: --method and one')
