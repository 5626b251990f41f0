"""What a sweep found, beside the paper's values.

The functions take figures by cell, as :meth:`Sweep.evaluate` returns them, and the paper's as
:func:`paper_values`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from mmdet_atc.studies.tables import markdown_table

from .cells import Cell

_PAPER = Path(__file__).with_name('paper_table3.json')
#: Box and mask AP; None where it is not known.
APs = tuple[float | None, float | None]


def paper_values() -> dict[str, APs]:
    """Box and mask AP of the paper's Table 3 in per cent, by the name of the cell."""
    values = json.loads(_PAPER.read_text())['values']
    return {name: (box, mask) for name, (box, mask) in values.items()}


def below_dense(
    figures: Mapping[Cell, dict], paper: Mapping[str, APs]
) -> tuple[dict[Cell, dict], dict[str, APs]]:
    """Both with the dense model's AP taken off, for images that the paper does not have.

    ``figures`` must have the dense model of each size. Its AP becomes 0, others mostly negative.
    """
    dense = {cell.size: cell for cell in figures if cell.method == 'dense'}
    ours, theirs = {}, {}
    for cell, values in figures.items():
        base = dense[cell.size]
        drops = {key: values[key] - figures[base][key] for key in ('box_ap', 'mask_ap')}
        ours[cell] = {**values, **drops}
        box, mask = (
            None if ap is None or full is None else ap - full
            for ap, full in zip(_of_paper(cell, paper), _of_paper(base, paper), strict=True)
        )
        theirs[cell.name] = box, mask
    return ours, theirs


def write_csv(path: Path, figures: Mapping[Cell, dict], paper: Mapping[str, APs]) -> None:
    """One line per cell; what is not known is left empty."""
    records = [_record(cell, values, paper) for cell, values in figures.items()]
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)


def write_markdown(
    path: Path, figures: Mapping[Cell, dict], paper: Mapping[str, APs], note: str
) -> str:
    """The same as a table below ``note``, which says what was evaluated; returns the text."""
    records = [_record(cell, values, paper) for cell, values in figures.items()]
    head = [column.replace('_', ' ') for column in records[0]]
    table = markdown_table(head, [list(record.values()) for record in records])
    text = f'{note}\n\n{table}\n'
    path.write_text(text)
    return text


def plot(
    path: Path, figures: Mapping[Cell, dict], paper: Mapping[str, APs], quantity: str = 'AP'
) -> None:
    """Box and mask AP over keep rate, one panel per size and regime; the paper's dashed."""
    merging = [cell for cell in figures if cell.method != 'dense']
    groups = list(dict.fromkeys((cell.size, cell.regime) for cell in merging))
    if not groups:
        return
    figure = Figure(figsize=(6 * len(groups), 7), layout='constrained')
    panels = figure.subplots(2, len(groups), squeeze=False)
    for column, (size, regime) in enumerate(groups):
        cells = [cell for cell in merging if (cell.size, cell.regime) == (size, regime)]
        for row, what in enumerate(('box', 'mask')):
            axes = panels[row][column]
            for index, method in enumerate(dict.fromkeys(cell.method for cell in cells)):
                line = {cell.keep_rate: cell for cell in cells if cell.method == method}
                found = [(rate, figures[line[rate]][f'{what}_ap']) for rate in sorted(line)]
                axes.plot(*zip(*found, strict=True), 'o-', color=f'C{index}', label=method)
                theirs = [(rate, _of_paper(line[rate], paper)[row]) for rate in sorted(line)]
                theirs = [(rate, ap) for rate, ap in theirs if ap is not None]
                if theirs:
                    label = f'{method} (paper)'
                    axes.plot(*zip(*theirs, strict=True), 'x--', color=f'C{index}', label=label)
            for cell in figures:
                if cell.method == 'dense' and cell.size == size:
                    level = figures[cell][f'{what}_ap']
                    axes.axhline(level, color='black', linewidth=0.8, label='dense')
            axes.set(title=f'{size}, {regime}', xlabel='keep rate, %', ylabel=f'{what} {quantity}')
            axes.grid(alpha=0.3)
            axes.legend(fontsize='small', loc='upper left', bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)


def _record(cell: Cell, figures: dict, paper: Mapping[str, APs]) -> dict:
    """A line of the table, by the names of its columns."""
    record: dict = dataclasses.asdict(cell)
    for what, theirs in zip(('box', 'mask'), _of_paper(cell, paper), strict=True):
        ours = figures[f'{what}_ap']
        record[f'{what}_ap'] = ours
        record[f'paper_{what}_ap'] = theirs
        record[f'{what}_difference'] = None if theirs is None else ours - theirs
    return record | {name: figures[name] for name in ('images_per_s', 'memory_mib')}


def _of_paper(cell: Cell, paper: Mapping[str, APs]) -> APs:
    return paper.get(cell.name, (None, None))
