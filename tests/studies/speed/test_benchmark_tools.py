"""The tools that measure, as a user runs them, on generated images."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mmdet_atc.datasets import generate_shapes_dataset
from mmdet_atc.engine import Variant
from mmdet_atc.studies.speed import clustering_report
from mmdet_atc.studies.speed.clustering import load_keys

from ...tools.processes import run, run_afresh

CLUSTERING = 'tools/analysis_tools/benchmark_clustering.py'
CONFIG = 'configs/atc_vit_adapter_micro_shapes.py'
DENSE = f'{CONFIG},model.backbone.merging=None'
#: Compiling takes long.
TWO_BLOCKS = (
    f'{CONFIG},model.backbone.depth=2,model.backbone.interaction_indexes=[[0,1]],'
    'model.backbone.merge_blocks=[0]'
)


def test_benchmark_compares_with_the_first_model(tmp_path: Path):
    data = generate_shapes_dataset(tmp_path / 'shapes', 2, 6)
    tool = 'tools/analysis_tools/benchmark.py'
    options = ['--shape', '128', '192', '--batches', '1', '2', '--repeats', '2']
    options += ['--measure', 'backbone', 'detector', 'training']
    out = tmp_path / 'out'
    result = run(data, tool, DENSE, CONFIG, *options, '--device', 'cpu', '--out-dir', str(out))
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
    models = [TWO_BLOCKS, f'{TWO_BLOCKS},compile=True']
    options = ['--shape', '128', '192', '--repeats', '2', '--measure', 'backbone']
    result = run_afresh(
        data, 'tools/analysis_tools/benchmark.py', *models, *options,
        '--device', 'cpu', '--out-dir', str(tmp_path), TORCH_LOGS='graph_code',
    )  # fmt: skip
    graphs = result.stderr.count('TRACED GRAPH')
    assert graphs == 1 or (graphs and torch.__version__ < '2.7')  # 2.6 traces a size again
    eager, compiled = json.loads((tmp_path / 'benchmark.json').read_text())['rows']
    assert compiled['name'].endswith('compile=True')
    assert len(compiled['seconds']['backbone']) == 2
    assert eager['batch'] == compiled['batch'] == 1
    assert 'clustering' in eager['stages']
    assert not compiled['stages']


def test_counter_writes_parameters_and_multiply_adds(tmp_path: Path):
    out = tmp_path / 'flops.json'
    tool = 'tools/analysis_tools/get_flops.py'
    run(tmp_path, tool, DENSE, CONFIG, '--shape', '128', '192', '--out', str(out))
    dense, merged = json.loads(out.read_text())['rows']
    assert dense['parameters'] == merged['parameters'] > 10**6
    assert merged['macs']['backbone'] < dense['macs']['backbone']
    assert merged['macs']['neck'] == dense['macs']['neck'] > 0
    assert merged['macs']['total'] == sum(merged['macs'][p] for p in ('backbone', 'neck', 'heads'))


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (
            ['get_flops.py', f'{CONFIG},model.backbone.merging.linkag=single'],
            1,
            "did you mean 'linkage'",
        ),
        (['benchmark_clustering.py', 'no/where'], 1, 'no such image: no/where'),
        (['../misc/tune_near.py', 'no/where.npz'], 1, "No such file or directory: 'no/where.npz'"),
        (['benchmark.py', CONFIG, '--repeats', '0'], 2, '--repeats: must be a whole number'),
        (['benchmark.py', CONFIG, '--size', 't'], 2, '--size says nothing with configs'),
        (['benchmark.py', '--out-dir', 'here'], 2, '--out-dir says nothing without configs'),
    ],
)
def test_mistakes_end_a_tool_in_one_line(tmp_path, arguments, status, message):
    result = run(tmp_path, f'tools/analysis_tools/{arguments[0]}', *arguments[1:], check=False)
    assert result.returncode == status
    last = result.stderr.splitlines()[-1]
    assert 'error: ' in last
    assert message in last
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    ('write', 'message'),
    [
        (lambda path: path.write_text('no keys'), "is no npz with an array 'keys'"),
        (lambda path: path.write_bytes(b'PK\3\4'), "is no npz with an array 'keys'"),
        (lambda path: np.savez(path, values=np.ones(3)), "is no npz with an array 'keys'"),
        (lambda path: np.savez(path, keys=np.ones(3)), r'tokens x channels, got \(3,\)'),
    ],
)
def test_a_file_without_keys_is_refused(tmp_path, write, message):
    write(tmp_path / 'keys.npz')
    with pytest.raises(ValueError, match=rf'keys\.npz.* {message}'):
        load_keys(tmp_path / 'keys.npz')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('configs/none.py', r"no config at 'configs/none\.py'"),
        (f'{CONFIG},model', r"no config at 'configs/.*\.py,model'"),
        (f'{CONFIG},backend=sklearn', "has no 'backend' .*: give the whole name, such as"),
    ],
)
def test_a_bad_variant_is_refused(text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Variant.parse(text)


def test_a_variant_of_one_of_our_configs_needs_no_path():
    variant = Variant.parse('atc_vit_adapter_t_average_r50,total_batch_size=8')
    assert variant.name == 'atc_vit_adapter_t_average_r50, total_batch_size=8'
    assert variant.cfg.total_batch_size == 8


def test_values_of_a_variant_override_the_config():
    variant = Variant.parse(f'{CONFIG},model.backbone.merging.keep_rate=0.25,total_batch_size=8')
    assert variant.cfg.model.backbone.merging.keep_rate == 0.25
    assert variant.cfg.total_batch_size == 8
    assert variant.name == 'atc_vit_adapter_micro_shapes, keep_rate=0.25, total_batch_size=8'


@pytest.mark.parametrize('value', ['0.5,0.25', '[0.5,0.25]', '(0.5,0.25)'])
def test_lists_are_values_of_a_variant(value):
    variant = Variant.parse(
        f'{CONFIG},model.backbone.merging.keep_rate={value},model.backbone.merge_blocks=[1,2]'
    )
    assert list(variant.cfg.model.backbone.merging.keep_rate) == [0.5, 0.25]
    assert list(variant.cfg.model.backbone.merge_blocks) == [1, 2]


def test_clustering_is_timed_beside_its_peers(tmp_path: Path):
    data = generate_shapes_dataset(tmp_path / 'shapes', 2, 1)
    out = tmp_path / 'out'
    options = ['--sizes', '196', '1024', '--batches', '1', '2', '--linkages', 'single', 'average']
    options += ['--keep-rates', '0.5', '--repeats', '1', '--methods', 'ours', 'scikit-learn']
    result = run(
        data, CLUSTERING, str(data / 'train2017'), *options, '--device', 'cpu',
        '--out-dir', str(out), '--figures', str(out / 'figures.csv'),
    )  # fmt: skip
    rows = json.loads((out / 'times.json').read_text())['rows']
    keys = ('tokens', 'batch', 'linkage', 'method')
    assert [tuple(row[key] for key in keys) for row in rows] == [
        (tokens, batch, linkage, method)
        for tokens in (196, 1024)
        for batch in (1, 2)
        for linkage in ('single', 'average')
        for method in ('ours', 'scikit-learn')
    ]
    assert all(0 < row['min_s'] <= row['median_s'] <= row['max_s'] for row in rows)
    figures = list(csv.DictReader((out / 'figures.csv').open()))
    assert [f['figure'] for f in figures[:2]] == ['ours, time', 'ours, peak memory']
    assert float(figures[0]['median']) == pytest.approx(1e3 * rows[0]['median_s'], rel=1e-3)
    tables = (out / 'times.md').read_text()
    assert tables in result.stdout
    times, growth = tables.split('\n\n')
    assert times.count('x)') == 8  # scikit-learn over ours
    assert growth.count('| N^') == 8
    assert (out / 'times.png').stat().st_size > 10_000


@pytest.fixture
def rows() -> list[dict]:
    """Times as N squared of ours, ten times that of scikit-learn; a second image costs as much."""
    return [
        dict(
            method=method, tokens=tokens, batch=batch, linkage='single', keep_rate=rate,
            median_s=seconds, min_s=seconds, max_s=seconds, peak_mib=3.0,
        )
        for tokens in (196, 1024)
        for batch in (1, 2)
        for rate in (0.25, 0.5)
        for method, factor in (('ours', 1), ('scikit-learn', 10))
        for seconds in [factor * batch * tokens**2 / 196**2 / 1000]
    ]  # fmt: skip


def test_tables_of_clustering_times(rows):
    lines = clustering_report.as_table(rows).splitlines()
    assert len(lines) == 2 + 2 * 2 * 2
    assert lines[4] == '| 196 | 2 | single | 0.25 | 2.0 | 20.0 (10.0x) | 3 | 3 |'
    lines = clustering_report.growth_table(rows).splitlines()
    assert len(lines) == 2 + 2 * 2 * 2
    assert all(line.endswith('| N^2.00 |') for line in lines[2:])


def test_every_batch_and_keep_rate_of_clustering_times_is_drawn(rows, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *_, **__: figures.append(figure))
    clustering_report.plot(rows, Path('times.png'))
    (figure,) = figures
    drawn = {
        (axes.get_title(), line.get_label()): list(line.get_ydata())
        for axes in figure.axes
        for line in axes.lines
    }
    expected = defaultdict(list)
    for row in rows:
        title = f'single linkage, batch {row["batch"]}, keep rate {row["keep_rate"]}'
        expected[title, row['method']].append(row['median_s'])
    assert len(expected) == 8
    assert drawn == expected
