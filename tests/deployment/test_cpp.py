"""Programs in C++: the operators, and the one that runs a detector without Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import mmcv
import pytest
import torch

from mmdet_atc.apis import load_exported
from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.deployment.spec import LARGEST_SIDE
from mmdet_atc.layers.deformable import deformable_attention

from ..clustering.families import FAMILIES, LINKAGES, features_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.__version__ < (2, 10), reason='the stable ABI begins with torch 2.10'),
]
#: Calls an operator of a library without the package; saves its schema, and what each call gave.
CALL = """
import sys, torch
torch.ops.load_library(sys.argv[1])
name, calls = torch.load(sys.argv[2])
operator = getattr(torch.ops.mmdet_atc, name).default
found = [str(operator._schema)]
for arguments in calls:
    try:
        found.append(operator(*arguments))
    except (RuntimeError, ValueError) as error:
        found.append(str(error))
torch.save(found, sys.argv[3])
assert 'mmdet_atc' not in sys.modules
"""


@pytest.fixture(scope='module')
def build(built, made_once):
    """Folder of the program and the operators."""

    def make(folder):
        process = built('cpp', folder)
        assert process.returncode == 0, process.stderr

    return made_once('cpp', make)


def called(build, name, calls, tmp_path):
    """What an operator gave for each tuple of arguments; an error is its message."""
    files = tmp_path / 'calls.pt', tmp_path / 'found.pt'
    torch.save((name, calls), files[0])
    library = build / 'libmmdet_atc_operators.so'
    command = [sys.executable, '-c', CALL, *map(str, (library, *files))]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    schema, *found = torch.load(files[1])
    assert schema == str(getattr(torch.ops.mmdet_atc, name).default._schema)
    return found


def test_clusters_are_those_of_python(build, tmp_path):
    calls, expected = [], []
    for family in FAMILIES:
        features = features_of(family, 2, 150, 9, torch.float32)
        for linkage in LINKAGES:
            for x in (features, features.half()):
                calls.append((x, 60, linkage, 'auto'))
                expected.append(agglomerative_clustering(x, 60, linkage))
    found = called(build, 'agglomerative_clustering', calls, tmp_path)
    for (*_, linkage, _), labels, one in zip(calls, found, expected, strict=True):
        assert torch.equal(labels, one), linkage


def test_attention_is_that_of_python(build, tmp_path):
    shapes = ((6, 8), (3, 4))
    calls, expected = [], []
    for channels in (32, 5):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            value = torch.randn(2, 60, 3, channels).to(dtype)
            projections = torch.randn(2, 7, 3 * 2 * 4 * 3) * 3
            inputs = value.transpose(1, 2).contiguous().transpose(1, 2), projections
            reference = torch.rand(7, 2)
            calls.append((*inputs, reference, [6, 8, 3, 4]))
            expected.append(deformable_attention(*inputs, reference, shapes))
    found = called(build, 'deformable_attention', calls, tmp_path)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_operators_refuse_what_pythons_refuse(build, tmp_path):
    refused = {
        r'num_clusters must be in 1..4, got 5': (torch.eye(4)[None], 5, 'average', 'auto'),
        'linkage must be .*, got ward': (torch.eye(4)[None], 2, 'ward', 'auto'),
        'backend must be .*, got sklearn': (torch.eye(4)[None], 2, 'single', 'sklearn'),
        'features must be finite': (torch.eye(4)[None].log(), 2, 'single', 'cpu'),
        'features must have channels': (torch.zeros(1, 4, 0), 2, 'single', 'cpu'),
        r'features must be \(B, N, C\), got 2 dims': (torch.eye(4), 2, 'single', 'cpu'),
    }
    found = called(build, 'agglomerative_clustering', [*refused.values()], tmp_path)
    for message, text in zip(refused, found, strict=True):
        assert re.search(message, text.splitlines()[-1])


def written(pixels, size, path):
    """A PPM file of the picture in the upper left corner."""
    height, width = size.tolist()
    data = pixels[:, :height, :width].permute(1, 2, 0).contiguous().numpy().tobytes()
    path.write_bytes(f'P6\n{width} {height}\n255\n'.encode() + data)
    return path


def detect(folder, *arguments):
    command = [folder / 'detect', *arguments]
    environment = {'PATH': os.environ['PATH']}  # neither PYTHONPATH nor LD_LIBRARY_PATH
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize('dynamic', [False, True])
def test_a_program_finds_what_python_finds(build, package, dynamic_file, images, tmp_path, dynamic):
    package = dynamic_file('aoti') if dynamic else package
    exported = load_exported(package, show_progress=False)
    sizes = ((128, 96), (128, 96), (200, 150) if dynamic else (90, 70))
    pictures = [mmcv.imresize(mmcv.imread(path), size) for path, size in zip(images, sizes)]
    for pixels, size in exported.batches(pictures):
        file = written(pixels[0], size[0], tmp_path / 'picture.ppm')
        process = detect(build, package, file)
        assert process.returncode == 0, process.stderr
        lines = [line.removeprefix(f'{file} ').split() for line in process.stdout.splitlines()]
        found = torch.tensor([[float(number) for number in line] for line in lines])
        expected = exported.program(pixels, size)
        assert len(found) > 10
        assert found[:, 0].tolist() == expected['labels'].tolist()
        torch.testing.assert_close(found[:, 1], expected['scores'], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[:, 2:6], expected['boxes'], atol=1e-2, rtol=0)
        covered = (expected['masks'] >= 0.5).float().mean(dim=(1, 2))
        torch.testing.assert_close(found[:, 6], covered, atol=5e-3, rtol=0)


def test_a_program_takes_as_many_pictures_as_there_are(build, dynamic_file, images, tmp_path):
    package = dynamic_file('aoti')
    exported = load_exported(package, show_progress=False)
    pictures = [
        mmcv.imresize(mmcv.imread(path), size) for path, size in zip(images, ((90, 150), (130, 70)))
    ]
    ((pixels, sizes),) = exported.batches(pictures, 2)
    assert tuple(pixels.shape) == (2, 3, 160, 160)
    files = [written(*one, tmp_path / f'{i}') for i, one in enumerate(zip(pixels, sizes))]
    process = detect(build, package, *files)
    expected = exported.program(pixels, sizes)
    found = [line.split() for line in process.stdout.splitlines()]
    assert [line[0] for line in found] == [str(files[i]) for i in expected['images'].tolist()]
    boxes = torch.tensor([[float(side) for side in line[3:7]] for line in found])
    torch.testing.assert_close(boxes, expected['boxes'], atol=1e-2, rtol=0)


def test_a_program_refuses_in_one_line(build, package, dynamic_file, tmp_path):
    small = written(
        torch.zeros(3, 32, 32, dtype=torch.uint8), torch.tensor([32, 32]), tmp_path / 's'
    )
    large = written(torch.zeros(3, 97, 9, dtype=torch.uint8), torch.tensor([97, 9]), tmp_path / 'l')
    dynamic, side = dynamic_file('aoti'), LARGEST_SIDE + 1
    huge = written(
        torch.zeros(3, 9, side, dtype=torch.uint8), torch.tensor([9, side]), tmp_path / 'h'
    )
    alone = tmp_path / 'alone'
    alone.mkdir()
    shutil.copy(build / 'detect', alone)
    for folder, arguments, message in (
        (build, (package,), 'usage: detect PACKAGE.pt2 PICTURE.ppm'),
        (build, (package, large), 'rows: the package takes at most 96, got 97'),
        (build, (package, small, small), 'pictures: the package takes at most 1, got 2'),
        (build, (dynamic, huge), f'columns: the package takes at most 2880, got {side}'),
        (build, (dynamic, *[small] * 65), 'pictures: the package takes at most 64, got 65'),
        (build, (package, package), 'micro.pt2 is no PPM file'),
        (build, (tmp_path / 'none.pt2', small), 'no package at'),
        (alone, (package, small), 'libmmdet_atc_operators.so: cannot open shared object file'),
    ):
        process = detect(folder, *arguments)
        assert process.returncode == 1
        (line,) = process.stderr.splitlines()
        assert line.startswith('error: ')
        assert message in line
