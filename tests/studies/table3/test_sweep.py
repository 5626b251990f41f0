"""The sweep on real images, with random weights in the released layout (mechanics only)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmdet_atc.engine import Variant
from mmdet_atc.studies.table3 import Sweep
from mmdet_atc.studies.table3.cells import Cell

from ...conftest import ROOT
from ...tools.processes import run

TOOL = 'tools/reproduce_table3.py'
#: Small images: this is about the sweep, not about the model.
SMALL = 'test_dataloader.dataset.pipeline.1.scale=(160,96)'


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> Path:
    """Folder with a dense checkpoint and one laid out as the released repositories are."""
    root = tmp_path_factory.mktemp('weights')
    config = str(ROOT / 'configs/vit_adapter_t_global_3x.py')
    model = Variant.parse(config).build(torch.device('cpu'))
    checkpoint = dict(meta={}, state_dict=model.state_dict())
    released = root / 'atc_tiny-coco17-average'
    released.mkdir()
    torch.save(checkpoint, root / 'dense.pth')
    torch.save(checkpoint, released / 'atc_tiny-coco17-05-average.pth')
    return root


@pytest.mark.slow
def test_a_killed_sweep_goes_on_without_redoing_finished_cells(weights, coco_tiny, tmp_path):
    # From another folder, to which relative paths belong.
    command = [sys.executable, str(ROOT / TOOL), '--sizes', 'tiny']
    command += ['--methods', 'average', '--keep-rates', '50', '--limit-images', '2']
    command += ['--dense-tiny', 'dense.pth', '--released', '.']
    command += ['--cfg-options', SMALL, '--out-dir', str(tmp_path)]
    env = {**os.environ, 'COCO_ROOT': str(coco_tiny)}
    first = subprocess.Popen(
        command,
        cwd=weights,
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    dense = tmp_path / 'cells' / 'tiny_dense_dense_r100.json'
    end = time.monotonic() + 300
    while not dense.exists():
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    written = dense.stat().st_mtime_ns
    assert not (tmp_path / 'table3.md').exists()

    second = subprocess.run(
        command, cwd=weights, env=env, capture_output=True, text=True, timeout=500
    )
    assert second.returncode == 0, second.stderr[-3000:]
    assert dense.stat().st_mtime_ns == written
    cells = {path.stem: json.loads(path.read_text()) for path in dense.parent.glob('*.json')}
    assert set(cells) == {
        'tiny_dense_dense_r100',
        'tiny_off-the-shelf_average_r50',
        'tiny_fine-tuned_average_r50',
    }
    for figures in cells.values():
        assert 0 <= figures['box_ap'] <= 100
        assert figures['images_per_s'] > 0
        assert figures['source']['limit_images'] == 2
    # The same weights and the same merging.
    for what in ('box_ap', 'mask_ap'):
        tuned = cells['tiny_fine-tuned_average_r50'][what]
        assert tuned == cells['tiny_off-the-shelf_average_r50'][what]
    assert 'the first 2 images' in (tmp_path / 'table3.md').read_text()
    assert (tmp_path / 'table3.csv').exists()
    assert (tmp_path / 'table3.png').exists()


def test_figures_of_another_evaluation_are_not_taken(tmp_path, monkeypatch):
    cell = Cell('tiny', 'fine-tuned', 'average', 50)
    (tmp_path / 'cells').mkdir()
    monkeypatch.chdir(tmp_path)
    checkpoint = str(tmp_path.resolve() / cell.checkpoint({}, 'weights'))
    source = dict(checkpoint=checkpoint, cfg_options=['a=1'], processes=1)
    figures = dict(box_ap=1.0, source=source)
    (tmp_path / 'cells' / f'{cell.name}.json').write_text(json.dumps(figures))
    assert Sweep(ROOT, tmp_path, {}, 'weights', cfg_options=['a=1']).evaluate(cell) == figures
    for other in (
        Sweep(ROOT, tmp_path, {}, 'weights'),
        Sweep(ROOT, tmp_path, {}, 'others', cfg_options=['a=1']),
        Sweep(ROOT, tmp_path, {}, 'weights', processes=2, cfg_options=['a=1']),
    ):
        with pytest.raises(ValueError, match=rf'{cell.name}\.json was saved of another evalu'):
            other.evaluate(cell)
    monkeypatch.chdir(tmp_path / 'cells')
    with pytest.raises(ValueError, match='saved of another evaluation'):
        Sweep(ROOT, tmp_path, {}, 'weights', cfg_options=['a=1']).evaluate(cell)


def test_images_a_second_count_those_of_a_batch(tmp_path):
    (tmp_path / 'now').mkdir()
    figures = {'coco/bbox_mAP': 0.4, 'coco/segm_mAP': 0.3, 'time': 2.0}
    (tmp_path / 'now' / 'now.json').write_text(json.dumps(figures))
    (tmp_path / 'config.py').write_text('test_dataloader = dict(batch_size=8)')
    found = Sweep(ROOT, tmp_path, {}, '', processes=2)._figures(tmp_path, 'memory: 17  time: 2')
    assert found == dict(box_ap=40, mask_ap=30, images_per_s=8, memory_mib=17)


@pytest.mark.slow
def test_a_dense_detector_of_ones_own_is_merged_in_every_way(coco_tiny, tmp_path):
    """The few images that tools/table3_in_miniature.sh learns; random weights here."""
    config = 'configs/vit_adapter_dinov2_few_images.py'
    model = Variant.parse(str(ROOT / config)).build(torch.device('cpu'))
    torch.save(dict(meta={}, state_dict=model.state_dict()), tmp_path / 'dense.pth')
    run(
        tmp_path, TOOL, '--dense-config', config, '--sizes', 'small',
        '--dense-small', str(tmp_path / 'dense.pth'), '--methods', 'topk', '--keep-rates', '25',
        '--limit-images', '2', '--cfg-options', SMALL, '--out-dir', str(tmp_path),
        COCO_ROOT=str(coco_tiny),
    )  # fmt: skip
    (dumped,) = (tmp_path / 'runs/small_off-the-shelf_topk_r25').glob('*.py')
    assert Config.fromfile(dumped).model.backbone.merging == dict(
        type='TopKMerging', keep_rate=0.25
    )
    for name in ('table3', 'drop'):
        assert 'off-the-shelf | topk | 25 | ' in (tmp_path / f'{name}.md').read_text()
        assert (tmp_path / f'{name}.png').stat().st_size > 10_000


def test_a_merging_config_is_no_dense_one(tmp_path):
    merging = ['--dense-config', 'configs/atc_vit_adapter_s_average_r50.py']
    result = run(tmp_path, TOOL, '--out-dir', str(tmp_path), *merging, check=False)
    assert result.returncode == 1
    assert 'must be of a dense ViTAdapter, its backbone is a ATCViTAdapter' in result.stderr


def test_a_failing_cell_shows_its_last_lines(tmp_path):
    result = run(
        tmp_path, TOOL, '--sizes', 'tiny', '--regimes', 'fine-tuned', '--methods', 'average',
        '--keep-rates', '50', '--released', str(tmp_path / 'nowhere'), '--out-dir', str(tmp_path),
        check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert 'error: tiny_fine-tuned_average_r50 failed, see' in result.stderr
    assert 'atc_tiny-coco17-05-average.pth' in result.stderr
    assert not list((tmp_path / 'cells').iterdir())
