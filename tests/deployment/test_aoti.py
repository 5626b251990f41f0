"""Packages of AOTInductor, on the CPU."""

from __future__ import annotations

import zipfile

import mmcv
import pytest
import torch

from mmdet_atc.apis import load_exported
from mmdet_atc.apis.exported import config_of
from mmdet_atc.deployment import Spec, TraceableDetector, compare, save

SHAPE = (96, 128)


@pytest.mark.slow
def test_a_package_finds_what_the_model_finds(inferencer, images, package):
    exported = load_exported(package, show_progress=False)
    assert exported.program.spec == Spec(*SHAPE, config=config_of(inferencer))
    pictures = [mmcv.imresize(mmcv.imread(path), SHAPE[::-1]) for path in images[:3]]
    parity = compare(inferencer.model, exported.program, exported.batches(pictures))
    assert parity.detections > 30
    assert parity.is_within(), parity
    pixels, sizes = next(exported.batches(pictures))
    with pytest.raises(ValueError, match=r'takes uint8 pixels of \(1, 3, 96, 128\)'):
        exported.program(pixels[:, :, :64], sizes)


@pytest.mark.slow
def test_a_package_is_of_no_number_of_threads(package):
    with zipfile.ZipFile(package) as archive:
        sources = [archive.read(x) for x in archive.namelist() if x.endswith('kernel.cpp')]
    assert sources
    assert not any(b'num_threads(' in source for source in sources)


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ >= (2, 12), reason='torch 2.15 fails to pack weights')
def test_a_package_runs_on_packed_weights(package, dynamic_file):
    for file in (package, dynamic_file('aoti')):
        with zipfile.ZipFile(file) as archive:
            (source,) = (archive.read(x) for x in archive.namelist() if x.endswith('wrapper.cpp'))
        assert source.count(b'aoti_torch_cpu__linear_pointwise') > 10
        assert source.count(b'aoti_torch_cpu_mkldnn__convolution_pointwise') > 10
        assert b'aoti_torch_cpu_addmm_out' not in source


def test_what_is_missing_is_one_line(inferencer, tmp_path, monkeypatch):
    detector, file = TraceableDetector(inferencer.model), tmp_path / 'x.pt2'
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(ValueError, match=r'needs a C\+\+ compiler, got no-such-compiler'):
        save(detector, Spec(*SHAPE), file, 'aoti')
