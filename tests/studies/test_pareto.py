"""The Pareto front against its definition, and the tool on files that the other tools write."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet_atc.studies.pareto import (
    Point,
    benchmarked_speeds,
    pareto_front,
    points,
    read_cells,
)
from mmdet_atc.studies.speed.measure import Row
from mmdet_atc.studies.table3 import Cell

DENSE = Cell('tiny', 'dense', 'dense', 100)
AVERAGE = [Cell('tiny', 'off-the-shelf', 'average', rate) for rate in (25, 50, 90)]
TUNED = Cell('tiny', 'fine-tuned', 'average', 50)


def point(speed: float, ap: float) -> Point:
    return Point(DENSE, ap, 0, speed)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_nothing_beats(values):
    found = [point(speed, ap) for speed, ap in values]

    def beaten(one: Point) -> bool:
        return any(
            other.images_per_s >= one.images_per_s
            and other.box_ap >= one.box_ap
            and (other.images_per_s > one.images_per_s or other.box_ap > one.box_ap)
            for other in found
        )

    expected = [one for one in found if not beaten(one)]
    expected.sort(key=lambda one: -one.images_per_s)
    assert pareto_front(found, 'box_ap') == expected


@pytest.fixture
def sweep(tmp_path):
    """Cells as ``Sweep.evaluate`` writes them."""
    (tmp_path / 'cells').mkdir()
    figures = {DENSE: (46, 41, 4), AVERAGE[0]: (30, 27, 9), AVERAGE[1]: (43, 38, 7)}
    figures |= {AVERAGE[2]: (45, 40, 3), TUNED: (44, 39, 7)}
    for cell, (box, mask, speed) in figures.items():
        values = dict(box_ap=box, mask_ap=mask, images_per_s=speed, memory_mib=None)
        (tmp_path / 'cells' / f'{cell.name}.json').write_text(json.dumps(values))
    return tmp_path


@pytest.fixture
def benchmark(tmp_path):
    """What ``benchmark.py`` writes."""
    rows = [
        Row('vit_adapter_t_global_3x', 2, [1], seconds=dict(backbone=[1, 0.5, 0.4])),
        Row('atc_vit_adapter_t_average_r50', 2, [1], seconds=dict(backbone=[0.2, 0.25, 9])),
        Row('atc_vit_adapter_t_average_r50', 4, [1], seconds=dict(backbone=[0.2])),
    ]
    path = tmp_path / 'benchmark.json'
    path.write_text(json.dumps(dict(machine={}, rows=[dataclasses.asdict(row) for row in rows])))
    return path


def test_speeds_come_from_the_evaluation_or_the_benchmark(sweep, benchmark):
    figures = read_cells(sweep)
    assert read_cells(sweep / 'cells') == figures
    assert list(figures) == [DENSE, *AVERAGE, TUNED]
    assert [p.images_per_s for p in points(figures)] == [4, 9, 7, 3, 7]
    speeds = benchmarked_speeds(benchmark, 'backbone')
    assert speeds == {'vit_adapter_t_global_3x': 4, 'atc_vit_adapter_t_average_r50': 8}
    joined = points(figures, speeds)
    assert [(p.cell, p.images_per_s) for p in joined] == [(DENSE, 4), (AVERAGE[1], 8), (TUNED, 8)]
    assert benchmarked_speeds(benchmark, 'backbone', batch=4) == {
        'atc_vit_adapter_t_average_r50': 20
    }


def test_what_does_not_fit_is_named(sweep, benchmark, tmp_path):
    with pytest.raises(ValueError, match=r"measure must be one of \['backbone'\], got 'detector'"):
        benchmarked_speeds(benchmark, 'detector')
    with pytest.raises(ValueError, match=r'batch must be one of \[2, 4\], got 3'):
        benchmarked_speeds(benchmark, 'backbone', batch=3)
    for content in ('{"points": []}', '{"rows": [{"name": "flops"}]}', '[]'):
        (tmp_path / 'other.json').write_text(content)
        with pytest.raises(ValueError, match=r'other\.json is no benchmark\.json of'):
            benchmarked_speeds(tmp_path / 'other.json', 'backbone')
    with pytest.raises(ValueError, match='no cell of the sweep has its config'):
        points(read_cells(sweep), {'other': 1.0})
    with pytest.raises(FileNotFoundError, match='no cells'):
        read_cells(tmp_path / 'nowhere')
    broken = sweep / 'cells' / f'{DENSE.name}.json'
    broken.write_text('{"box_ap": 1}')
    with pytest.raises(ValueError, match='lacks images_per_s, mask_ap'):
        read_cells(sweep)
    broken.write_text('{')
    with pytest.raises(ValueError, match='no JSON'):
        read_cells(sweep)
    broken.rename(sweep / 'cells' / 'huge.json')
    with pytest.raises(ValueError, match=r'huge\.json: not named as a cell of Table 3'):
        read_cells(sweep)


def test_the_tool_marks_the_front(sweep, benchmark, run_tool, capsys):
    tool = 'tools/analysis_tools/plot_pareto.py'
    run_tool(tool, sweep)
    content = json.loads((sweep / 'pareto.json').read_text())
    front = [AVERAGE[0].name, TUNED.name, DENSE.name]
    assert content['fronts'] == dict(box_ap=front, mask_ap=front)
    assert len(content['points']) == 5
    text = (sweep / 'pareto.md').read_text()
    assert text == capsys.readouterr().out
    assert '| tiny | fine-tuned | average | 50 | 7.00 | 44.00 | 39.00 | box, mask |' in text
    assert '| tiny | off-the-shelf | average | 90 | 3.00 | 45.00 | 40.00 | - |' in text
    assert (sweep / 'pareto.png').stat().st_size > 10_000
    with pytest.raises(SystemExit, match=r"error: .*got 'detector'"):
        run_tool(tool, sweep, '--benchmark', benchmark)
