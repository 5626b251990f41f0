"""Programs of ``torch.export``: the tool, the file without OpenMMLab, the inferencer's call."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mmdet_atc.apis import load_exported
from mmdet_atc.deployment import TraceableDetector

from ..conftest import ROOT
from ..test_layering import WITHOUT_OPENMMLAB
from ..tools.processes import run

TOOL = 'tools/deployment/export.py'
#: Runs a file with torch, torchvision and the operators; on the inputs that are saved beside it.
ALONE = """
import torch, torchvision, mmdet_atc.ops
program = torch.export.load(sys.argv[1]).module()
torch.save(program(*torch.load(sys.argv[2])), sys.argv[3])
"""


@pytest.fixture(scope='module')
def fixed(config, checkpoint, coco_tiny, images, tmp_path_factory):
    """File of the tool for one size and two images a call, and what the tool said."""
    file = tmp_path_factory.mktemp('fixed') / 'micro.pt2'
    result = run(
        coco_tiny, TOOL, config, checkpoint, '--shape', '128', '160', '--batch', '2',
        '--out', str(file), '--images', str(coco_tiny / 'val2017'), '--repeats', '1',
    )  # fmt: skip
    return file, result.stdout


@pytest.fixture(scope='module')
def exported(fixed):
    return load_exported(fixed[0], show_progress=False)


def test_the_tool_says_how_near_and_how_fast(fixed):
    file, output = fixed
    parity, speed = output.strip().splitlines()[-2:]
    assert parity.startswith('parity: ')
    assert ' px, scores within ' in parity
    assert speed.startswith(f'{file}: ')
    assert '(2, 3, 128, 160)' in speed


def test_a_file_runs_without_openmmlab(fixed, exported, inferencer, images, tmp_path):
    file, _ = fixed
    inputs = next(exported.batches(images[:2], 2))
    torch.save(inputs, tmp_path / 'inputs.pt')
    subprocess.run(
        [sys.executable, '-c', WITHOUT_OPENMMLAB + ALONE]
        + [str(path) for path in (file, tmp_path / 'inputs.pt', tmp_path / 'found.pt')],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        check=True,
    )
    found = torch.load(tmp_path / 'found.pt')
    expected = TraceableDetector(inferencer.model)(*inputs)
    assert len(expected['boxes']) > 10
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-4, msg=name)


def test_a_picture_that_is_larger_is_made_to_fit(exported, images):
    for pixels, sizes in exported.batches(images[:3], 2):
        assert tuple(pixels.shape) == (2, 3, 128, 160)
        assert (sizes <= torch.tensor([128, 160])).all()
    found = exported(images[:3], batch_size=2, return_datasamples=True)['predictions']
    assert len(found) == 3
    for sample in found:
        height, width = sample.ori_shape
        assert sample.pred_instances.masks.shape[1:] == (height, width)
        assert sample.pred_instances.bboxes.amax() <= max(height, width) + 1


def test_the_tool_refuses_in_one_line(coco_tiny, config, checkpoint, tmp_path):
    options = ['--out', str(tmp_path / 'x.pt2'), '--images', str(coco_tiny / 'val2017')]
    result = run(
        coco_tiny, TOOL, config, checkpoint, '--shape', '100', '160', *options, check=False
    )
    assert result.returncode == 1
    assert 'error: height and width must be multiples of 32' in result.stderr
    assert 'Traceback' not in result.stderr
