"""The benchmark and the counter as a user runs them, on generated images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet_atc.benchmarking.variants import Variant
from mmdet_atc.datasets import generate_shapes_dataset

from ..conftest import ROOT

CONFIG = 'configs/atc_vit_adapter_micro_shapes.py'
DENSE = f'{CONFIG},model.backbone.merging=None'


def run(*args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_benchmark_compares_with_the_first_model(tmp_path: Path):
    data = generate_shapes_dataset(tmp_path / 'shapes', 2, 6)
    tool = 'tools/analysis_tools/benchmark.py'
    options = ['--shape', '128', '192', '--batches', '1', '2', '--repeats', '2']
    options += ['--measure', 'backbone', 'detector', 'training']
    out = tmp_path / 'out'
    result = run(
        *(tool, DENSE, CONFIG, *options, '--device', 'cpu', '--out-dir', str(out)),
        SHAPES_ROOT=str(data),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = json.loads((out / 'benchmark.json').read_text())['rows']
    names = ['atc_vit_adapter_micro_shapes, merging=None', 'atc_vit_adapter_micro_shapes']
    assert [(row['name'], row['batch']) for row in rows] == [
        (name, batch) for batch in (1, 2) for name in names
    ]
    dense, merged = rows[:2]
    assert dense['tokens'] == [96] * 12
    assert merged['tokens'] == [*[96] * 3, *[48] * 3, *[24] * 3, *[12] * 3]
    assert 'clustering' in merged['stages']
    assert 'clustering' not in dense['stages']
    for row in rows:
        assert set(row['seconds']) == {'backbone', 'detector', 'training'}
        assert all(len(times) == 2 and min(times) > 0 for times in row['seconds'].values())
        assert {'neck', 'RPN', 'RoI heads', 'other'} <= set(row['stages'])
    # Per kind and model a warm-up, two repeats and one for memory; three for the stages.
    assert ' 60/60, ' in result.stderr
    assert '1/60, ' in result.stderr
    table = (out / 'benchmark.md').read_text()
    assert table in result.stdout
    assert table.count('(1.00x)') >= 6
    assert (out / 'benchmark.png').stat().st_size > 10_000


def test_a_compiled_backbone_is_compared_with_its_own_eager_self(tmp_path: Path):
    data = generate_shapes_dataset(tmp_path / 'shapes', 2, 6)
    options = ['--shape', '128', '192', '--repeats', '2', '--measure', 'backbone']
    result = run(
        'tools/analysis_tools/benchmark.py',
        *(CONFIG, f'{CONFIG},compile=True', *options),
        *('--device', 'cpu', '--out-dir', str(tmp_path)),
        SHAPES_ROOT=str(data),
        TORCH_LOGS='graph_code',
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr.count('TRACED GRAPH') == 1
    eager, compiled = json.loads((tmp_path / 'benchmark.json').read_text())['rows']
    assert compiled['name'].endswith('compile=True')
    assert len(compiled['seconds']['backbone']) == 2
    assert eager['batch'] == compiled['batch'] == 1
    assert 'clustering' in eager['stages']
    assert not compiled['stages']


def test_counter_writes_parameters_and_multiply_adds(tmp_path: Path):
    out = tmp_path / 'flops.json'
    tool = 'tools/analysis_tools/get_flops.py'
    result = run(tool, DENSE, CONFIG, '--shape', '128', '192', '--out', str(out))
    assert result.returncode == 0, result.stderr[-3000:]
    dense, merged = json.loads(out.read_text())['rows']
    assert dense['parameters'] == merged['parameters'] > 10**6
    assert merged['macs']['backbone'] < dense['macs']['backbone']
    assert merged['macs']['neck'] == dense['macs']['neck'] > 0
    assert merged['macs']['total'] == sum(merged['macs'][p] for p in ('backbone', 'neck', 'heads'))


@pytest.mark.parametrize(
    ('text', 'message'),
    [('configs/none.py', 'no such config'), (f'{CONFIG},model', "'model' is not KEY=VALUE")],
)
def test_a_bad_variant_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Variant.parse(text)


def test_values_of_a_variant_override_the_config():
    variant = Variant.parse(f'{CONFIG},model.backbone.merging.keep_rate=0.25,total_batch_size=8')
    assert variant.cfg.model.backbone.merging.keep_rate == 0.25
    assert variant.cfg.total_batch_size == 8
    assert variant.name == 'atc_vit_adapter_micro_shapes, keep_rate=0.25, total_batch_size=8'
