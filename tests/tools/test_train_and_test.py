"""The tools as a user runs them, on generated data."""

from __future__ import annotations

import json
import pickle
import signal
from pathlib import Path

import pytest
import torch

from ..conftest import ROOT
from .micro_runs import CONFIG, SMALL, detections, figures, losses, untrained
from .processes import run


@pytest.mark.slow
def test_training_writes_checkpoints_logs_and_figures(trained):
    assert (trained / 'epoch_1.pth').exists()
    assert (trained / 'last_checkpoint').read_text() == str(trained / 'epoch_2.pth')
    assert sorted(losses(trained)) == list(range(1, 7))
    log = next(trained.glob('*/*.log')).read_text()
    assert 'eta:' in log
    assert 'coco/segm_mAP' in log
    pictures = sorted(path.name for path in trained.glob('*/vis_data/vis_image/*'))
    assert pictures == ['clusters_0_000000000001_6.png', 'clusters_1_000000000002_6.png']


@pytest.mark.slow
@pytest.mark.parametrize(('moment', 'iterations'), [('iteration', 5), ('save', 6)])
def test_a_killed_and_resumed_run_has_the_losses_of_an_uninterrupted_one(
    data, trained, tmp_path, moment, iterations
):
    train = ['tools/train.py', CONFIG, '--work-dir', str(tmp_path)]
    kill_at = str(Path(__file__).with_name('kill_at.py'))
    keep_one = [*SMALL, 'default_hooks.checkpoint.max_keep_ckpts=1']
    killed = run(data, kill_at, moment, *train, '--cfg-options', *keep_one, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert max(losses(tmp_path)) == iterations
    # The half-written file has another name, and the last whole one is still there.
    assert [path.name for path in tmp_path.glob('epoch_*.pth')] == ['epoch_1.pth']

    # The seed is then the checkpoint's.
    no_seed = 'randomness.seed=None'
    resumed = run(data, *train, '--resume', '--cfg-options', *keep_one, no_seed)
    assert 'resumed epoch: 1' in resumed.stdout + resumed.stderr
    assert losses(tmp_path) == losses(trained)
    assert figures(tmp_path) == figures(trained)
    assert [path.name for path in tmp_path.glob('epoch_*')] == ['epoch_2.pth']


@pytest.mark.slow
def test_evaluation_prints_the_12_figures_of_boxes_and_masks(data, trained, tmp_path):
    out = tmp_path / 'predictions.pkl'
    checkpoint = str(trained / 'epoch_2.pth')
    result = run(
        data, 'tools/test.py', CONFIG, checkpoint, '--work-dir', str(tmp_path), '--out', str(out),
        '--show-dir', 'pictures', '--cfg-options', *SMALL,
    )  # fmt: skip
    text = result.stdout + result.stderr
    assert text.count('Average Precision  (AP)') == 12
    assert text.count('Average Recall     (AR)') == 12
    assert len(pickle.loads(out.read_bytes())) == 6
    assert len(list(tmp_path.glob('*/pictures/*.png'))) == 6
    last = next(trained.glob('*/vis_data/scalars.json')).read_text().splitlines()[-1]
    figures = json.loads(next(tmp_path.glob('*/*.json')).read_text())
    for name, value in json.loads(last).items():
        if name.startswith('coco/'):
            assert figures[name] == value, name
    table = run(data, 'tools/misc/print_ap_table.py', str(tmp_path)).stdout
    assert 'boxes' in table
    assert 'masks' in table


@pytest.mark.slow
def test_cluster_pictures_and_detections(data, trained, tmp_path):
    images = [str(data / 'val2017' / f'00000000000{i}.png') for i in (1, 2)]
    common = ['--config', CONFIG, '--out-dir', str(tmp_path)]
    small = [option for option in SMALL if option.startswith('model.')]
    checkpoint = str(trained / 'epoch_2.pth')
    run(
        data, 'tools/analysis_tools/visualize_clusters.py', *images, *common,
        '--checkpoint', checkpoint, '--cfg-options', *small,
    )  # fmt: skip
    assert (tmp_path / '000000000001_clusters.png').stat().st_size > 1000
    assert (tmp_path / '000000000002_clusters.png').exists()

    config = str(trained / Path(CONFIG).name)  # as the run saved it, with the options
    run(
        data, 'demo/image_demo.py', *images, '--config', config, '--checkpoint', checkpoint,
        '--out-dir', str(tmp_path), '--device', 'cpu',
    )  # fmt: skip
    assert (tmp_path / 'vis' / '000000000001.png').exists()
    assert 'scores' in json.loads((tmp_path / 'preds' / '000000000002.json').read_text())


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['configs/atc_vit_adapter_s_average_r50.py'], 'load_from: no checkpoint at'),
        ([CONFIG, '--resume', 'no/such.pth'], 'resume: no checkpoint at'),
        ([CONFIG, '--cfg-options', 'train_dataloader.batch_size=3'], 'total_batch_size='),
        (
            [CONFIG, '--cfg-options', 'model.backbone.merging.keep_rate=50'],
            'keep_rate must be in (0, 1], got 50',
        ),
        (
            [CONFIG, '--cfg-options', 'model.backbone.merging.keeprate=0.5'],
            "did you mean 'keep_rate'",
        ),
        ([CONFIG, '--cfg-options', 'model.neck.type=NoSuch'], 'NoSuch is not in the'),
        ([CONFIG, '--cfg-options', 'model.neck.out_channels.x=1'], 'cannot inherit from base'),
        ([CONFIG, '--cfg-options', 'train_dataloader.dataset.pipeline.9.x=1'], 'exceeds the len'),
        ([CONFIG, '--cfg-options', 'data_root=no/where'], 'with COCO_ROOT for the configs of COCO'),
    ],
)
def test_mistakes_end_in_one_line(data, tmp_path, args, message):
    result = run(data, 'tools/train.py', *args, '--work-dir', str(tmp_path), check=False)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('error: ')
    assert message in last


def test_drawing_needs_a_merging_backbone_and_images(data, tmp_path):
    tool = 'tools/analysis_tools/visualize_clusters.py'
    result = run(data, tool, 'no.png', '--config', CONFIG, check=False)
    assert 'error: no such image: no.png' in result.stderr
    image = str(data / 'val2017' / '000000000001.png')
    dense = 'configs/vit_adapter_t_global_3x.py'
    result = run(data, tool, image, '--config', dense, check=False)
    assert 'merges no tokens' in result.stderr.strip().splitlines()[-1]


def test_the_generator_refuses_to_overwrite(data, tmp_path):
    result = run(
        data, 'tools/misc/make_shapes_dataset.py', str(data), '--num-train', '5', check=False
    )
    assert 'other arguments' in result.stderr.splitlines()[-1]


RETINANET = """
_base_ = [
    '{root}/configs/_base_/datasets/shapes_instance.py',
    '{root}/configs/_base_/schedules/adamw.py',
    '{root}/configs/_base_/default_runtime.py',
    'mmdet::_base_/models/retinanet_r50_fpn.py',
]
custom_imports = dict(imports=['mmdet_atc'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(pad_mask=False),
    backbone=dict(_delete_=True, type='ViTAdapter', embed_dim=48, num_heads=3, conv_inplane=16),
    neck=dict(in_channels=[48] * 4, out_channels=32),
    bbox_head=dict(num_classes=4, in_channels=32, feat_channels=32, stacked_convs=1),
    test_cfg=dict(score_thr=0, max_per_img=10),
)
test_evaluator = dict(metric='bbox')
"""


@pytest.mark.slow
def test_images_and_their_mirror_images_find_more_than_images(data, tmp_path):
    config = tmp_path / 'retinanet.py'
    config.write_text(RETINANET.format(root=ROOT))
    torch.save(dict(state_dict=untrained(str(config), {})), tmp_path / 'a.pth')
    found = []
    for name, switch in (('once', []), ('twice', ['--tta'])):
        out = tmp_path / f'{name}.pkl'
        result = run(
            data, 'tools/test.py', str(config), str(tmp_path / 'a.pth'), *switch, '--out', str(out),
            '--limit-images', '2', '--work-dir', str(tmp_path),
        )  # fmt: skip
        assert 'Figures are of the 2 images that were run, of 6' in result.stdout + result.stderr
        found.append(detections(out))
    assert [[image for image, _, _ in each] for each in found] == [[1, 2], [1, 2]]
    for (_, _, once), (_, _, twice) in zip(*found, strict=True):
        assert len(once) == 10
        assert len(twice) > len(once)
