"""Files for onnxruntime: plain for all but ATC, whose clustering is an operator of our own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import mmcv
import onnx
import onnxruntime
import pytest
import torch

from mmdet_atc import deployment
from mmdet_atc.apis import DetInferencer, load_exported
from mmdet_atc.apis.exported import config_of
from mmdet_atc.deployment import Spec, TraceableDetector, compare, save
from mmdet_atc.deployment.onnx import translations
from mmdet_atc.deployment.regions import kept_by_nms
from mmdet_atc.engine import load_config
from mmdet_atc.layers.deformable import plain, sampled

from ..conftest import ROOT
from ..test_layering import WITHOUT_OPENMMLAB

WINDOWS_AND_TOME = {
    'model.backbone.merging': dict(type='BipartiteMerging', keep_rate=0.6, _delete_=True),
    'model.backbone.window_attn': [True, True, False, False],
    'model.backbone.window_size': 7,
    'model.backbone.merge_blocks': [2],
}
SHAPE = (128, 160)


@pytest.fixture(scope='module')
def pictures(images):
    return [mmcv.imresize(mmcv.imread(path), SHAPE[::-1]) for path in images[:3]]


@pytest.fixture(scope='module')
def atc(dynamic_file):
    return dynamic_file('onnx')


def operators(file):
    return {(node.domain, node.op_type) for node in onnx.load(file).graph.node}


def test_windows_and_tome_run_in_plain_onnxruntime(
    config, checkpoint, pictures, tmp_path, monkeypatch
):
    file = tmp_path / 'micro.onnx'
    cfg = load_config(config, WINDOWS_AND_TOME)
    inferencer = DetInferencer(cfg, checkpoint, device='cpu', show_progress=False)
    spec = Spec(*SHAPE, config=config_of(inferencer))
    save(TraceableDetector(inferencer.model), spec, file, 'onnx')
    assert {domain for domain, _ in operators(file)} == {''}
    assert {('', name) for name in ('GridSample', 'NonMaxSuppression', 'RoiAlign')} <= operators(
        file
    )
    assert all(entry.version >= 17 for entry in onnx.load(file).opset_import if not entry.domain)
    _hide(monkeypatch, 'onnxruntime_extensions')
    exported = load_exported(file, show_progress=False)
    parity = compare(inferencer.model, exported.program, exported.batches(pictures))
    assert parity.detections > 30
    assert parity.is_within(), parity


def test_clustering_is_one_operator_of_ours(atc):
    ours = {name for domain, name in operators(atc) if domain == 'mmdet_atc'}
    assert ours == {'AgglomerativeClustering'}


def test_a_file_of_one_size_finds_what_the_model_finds(inferencer, pictures, tmp_path):
    file = tmp_path / 'micro.onnx'
    spec = Spec(*SHAPE, config=config_of(inferencer))
    save(TraceableDetector(inferencer.model), spec, file, 'onnx')
    exported = load_exported(file, show_progress=False)
    parity = compare(inferencer.model, exported.program, exported.batches(pictures))
    assert parity.detections > 30
    assert parity.is_within(), parity


def test_a_file_that_clusters_runs_without_openmmlab(atc):
    code = f"""
import numpy, onnxruntime
from mmdet_atc.onnx_ops import session_options
session = onnxruntime.InferenceSession({str(atc)!r}, session_options())
pixels = numpy.zeros((1, 3, *{SHAPE}), numpy.uint8)
found = session.run(['boxes'], dict(pixels=pixels, sizes=numpy.array([{SHAPE}])))
assert found[0].shape[1] == 4
"""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    subprocess.run([sys.executable, '-c', WITHOUT_OPENMMLAB + code], env=environment, check=True)


def test_what_is_not_installed_is_named(atc, inferencer, tmp_path, monkeypatch):
    _hide(monkeypatch, 'onnxruntime_extensions')
    with pytest.raises(ImportError, match=r"clusters tokens, .*'mmdet_atc\[onnx\]'") as caught:
        load_exported(atc)
    assert '\n' not in str(caught.value)
    _hide(monkeypatch, 'onnxruntime')
    with pytest.raises(ImportError, match=r"ONNX needs onnxruntime: .*'mmdet_atc\[onnx\]'"):
        load_exported(atc)
    _hide(monkeypatch, 'onnxscript')
    with pytest.raises(ImportError, match='ONNX needs onnxscript'):
        save(TraceableDetector(inferencer.model), Spec(*SHAPE), tmp_path / 'x.onnx', 'onnx')


def test_files_are_named_by_their_format(inferencer, tmp_path):
    detector = TraceableDetector(inferencer.model)
    with pytest.raises(ValueError, match=r"'onnx' must end in \.onnx, got x\.pt2"):
        save(detector, Spec(*SHAPE), tmp_path / 'x.pt2', 'onnx')
    with pytest.raises(ValueError, match='format must be one of'):
        save(detector, Spec(*SHAPE), tmp_path / 'x.pt2', 'tensorrt')
    assert set(deployment.FORMATS) >= {'pt2', 'onnx'}


class Suppression(torch.nn.Module):
    """Of the boxes that score above .5."""

    def forward(self, boxes, scores, images):
        (index,) = torch.where(scores > 0.5)
        groups = torch.zeros_like(index)
        kept = kept_by_nms(boxes[index], scores[index], groups, images[index], 0.5, 2880)
        return index[kept]


def boxes_of_eight_images():
    start = torch.rand(400, 2) * 40
    return torch.cat([start, start + 8], dim=1), torch.rand(400) + 0.6, torch.arange(400) // 50


@pytest.fixture(scope='module')
def suppressions(tmp_path_factory):
    """A program of ``torch.export`` and a session of onnxruntime as functions."""
    program = torch.export.export(Suppression(), boxes_of_eight_images())
    file = tmp_path_factory.mktemp('nms') / 'nms.onnx'
    torch.onnx.export(
        program, dynamo=True, opset_version=18, custom_translation_table=translations()
    ).save(file)
    session = onnxruntime.InferenceSession(file)
    names = [given.name for given in session.get_inputs()]

    def run(*inputs):
        found = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
        return torch.from_numpy(found[0])

    return program.module(), run


def test_suppression_loses_no_digits_in_large_batches(suppressions):
    inputs = boxes_of_eight_images()
    expected = Suppression()(*inputs)
    for run in suppressions:
        found = run(*inputs)
        for image in range(8):
            kept = expected[expected // 50 == image]
            assert torch.equal(found[found // 50 == image], kept)
            assert 1 < len(kept) < 50


@pytest.mark.parametrize('count', [0, 1, 2])
def test_few_boxes_are_kept(suppressions, count):
    boxes, _, images = boxes_of_eight_images()
    scores = torch.zeros(400)
    scores[torch.arange(count) * 100] = torch.tensor([0.9, 0.8])[:count]
    for run in suppressions:
        assert run(boxes, scores, images).tolist() == [0, 100][:count]


def test_sampling_is_deformable_attention():
    shapes = ((6, 8), (3, 4))
    value = torch.randn(2, 60, 3, 5)
    projections = torch.randn(2, 7, 3 * 2 * 4 * 3) * 3
    arguments = value, projections, torch.rand(7, 2), shapes
    expected = plain.deformable_attention(*arguments)
    torch.testing.assert_close(sampled.deformable_attention(*arguments), expected)


def _hide(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name, *x: None if name == package else find(name, *x)
    )
