"""The cells of Table 3 have configs and checkpoints of the right names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdet_atc.engine import load_config
from mmdet_atc.engine.private import parsed_value
from mmdet_atc.studies.table3 import (
    Cell,
    all_cells,
    below_dense,
    paper_values,
    plot,
    write_csv,
    write_markdown,
)
from mmdet_atc.studies.table3.cells import ALL_METHODS, PAPER_METHODS

from ...conftest import ROOT


def test_every_cell_has_a_config_and_a_name_of_its_own():
    cells = all_cells()
    # Per size: dense, and in two regimes 3 linkages at 4 rates and ToMe at 3.
    assert len(cells) == 2 * (1 + 2 * (3 * 4 + 3))
    assert len({cell.name for cell in cells}) == len(cells)
    assert all((ROOT / cell.config).is_file() for cell in cells)


@pytest.mark.parametrize(
    ('cell', 'expected'),
    [
        (
            Cell('tiny', 'fine-tuned', 'average', 50),
            'hf://joakimbh/atc_tiny-coco17-average/atc_tiny-coco17-05-average.pth',
        ),
        (
            Cell('small', 'fine-tuned', 'single', 25),
            'hf://joakimbh/atc_small-coco17-single/atc_small-coco17-025-single.pth',
        ),
        (
            Cell('small', 'fine-tuned', 'tome', 90),
            'hf://joakimbh/tome_small-coco17/tome_small-coco17-09.pth',
        ),
        (Cell('tiny', 'off-the-shelf', 'complete', 70), 'dense_t.pth'),
        (Cell('tiny', 'dense', 'dense', 100), 'dense_t.pth'),
    ],
)
def test_checkpoints(cell, expected):
    assert cell.checkpoint(dict(tiny='dense_t.pth'), 'hf://joakimbh') == expected


@pytest.mark.parametrize('method', ALL_METHODS)
def test_merging_is_put_into_a_dense_config(method):
    cell = Cell('small', 'off-the-shelf', method, 50)
    name = cell.config if method in PAPER_METHODS else f'configs/{method}_vit_adapter_s_r50.py'
    options = dict(option.split('=') for option in cell.merging_options)
    dense = str(ROOT / Cell('small', 'dense', 'dense', 100).config)
    values = {key: parsed_value(value) for key, value in options.items()}
    ours, expected = (
        load_config(path, given).model.backbone
        for path, given in ((dense, values), (str(ROOT / name), {}))
    )
    assert (ours.type, ours.merging) == (expected.type, expected.merging)


def test_a_missing_dense_checkpoint_is_named():
    with pytest.raises(ValueError, match='--dense-small FILE'):
        Cell('small', 'off-the-shelf', 'average', 50).checkpoint({}, 'hf://joakimbh')


def test_tables_show_differences_to_the_paper_where_it_is_known(tmp_path: Path):
    known, unknown, half = (Cell('tiny', 'fine-tuned', 'average', r) for r in (50, 70, 90))
    figures = {
        cell: dict(box_ap=40.5, mask_ap=36.0, images_per_s=2.0, memory_mib=None)
        for cell in (known, unknown, half)
    }
    paper = {known.name: (40.0, 36.25), half.name: (41.0, None)}
    text = write_markdown(tmp_path / 't.md', figures, paper, 'Note.')
    first, second, third = text.splitlines()[4:]
    assert first.split(' | ')[4:10] == ['40.50', '40.00', '0.50', '36.00', '36.25', '-0.25']
    assert second.split(' | ')[4:10] == ['40.50', '-', '-', '36.00', '-', '-']
    assert third.split(' | ')[4:10] == ['40.50', '41.00', '-0.50', '36.00', '-', '-']
    write_csv(tmp_path / 't.csv', figures, paper)
    lines = (tmp_path / 't.csv').read_text().splitlines()
    assert lines[1] == 'tiny,fine-tuned,average,50,40.5,40.0,0.5,36.0,36.25,-0.25,2.0,'
    plot(tmp_path / 't.png', figures, paper)
    assert (tmp_path / 't.png').stat().st_size > 10_000


def test_drops_are_below_the_dense_model_of_ones_own():
    dense, average, single = (
        Cell('small', 'dense', 'dense', 100),
        Cell('small', 'off-the-shelf', 'average', 50),
        Cell('small', 'off-the-shelf', 'single', 70),
    )
    figures = {
        cell: dict(box_ap=box, mask_ap=box - 10, images_per_s=2.0)
        for cell, box in ((dense, 80.0), (average, 78.5), (single, 81.0))
    }
    paper = {dense.name: (48.5, 42.8), average.name: (46.0, 41.0), single.name: (47.0, None)}
    ours, theirs = below_dense(figures, paper)
    for key in ('box_ap', 'mask_ap'):
        assert [values[key] for values in ours.values()] == [0, -1.5, 1]
    assert theirs[average.name] == pytest.approx((-2.5, -1.8))
    assert theirs[single.name] == (-1.5, None)
    assert all(values['images_per_s'] == 2.0 for values in ours.values())


def test_the_paper_has_a_box_ap_of_every_cell():
    values = paper_values()
    assert set(values) == {cell.name for cell in all_cells()}
    assert all(box is not None for box, _ in values.values())
    unread = {name for name, (_, mask) in values.items() if mask is None}
    assert len(unread) == 16
    assert all(n.startswith('small') and n.endswith(('r70', 'r90')) for n in unread)
