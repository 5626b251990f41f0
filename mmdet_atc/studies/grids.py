"""Grids of runs that go on where they stopped: a JSON file per cell, the paper's values beside."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet_atc.checkpoints import replaced
from mmdet_atc.studies.tables import markdown_table

_TABLES = json.loads(Path(__file__).with_name('paper_tables.json').read_text())


def paper_value(table: str, row: str, column: str | float) -> float | None:
    """The paper's value of a cell of ``'table1'`` or ``'table2'``; None where it has none."""
    content = _TABLES[table]
    if row not in content['rows'] or column not in content['columns']:
        return None
    return content['rows'][row][content['columns'].index(column)]


def run_grid(
    out_dir: Path,
    settings: dict,
    rows: Mapping[Any, str],
    columns: Mapping[Any, str],
    cell_of: Callable[[Any, Any], str],
    run: Callable[[Any, Any], dict],
    figures: Sequence[str],
    paper: Callable[[Any, Any], float | None] = lambda row, column: None,
    digits: int = 1,
    head: str = '',
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Run the cells of a grid that have no file yet; the table of all goes to ``table.md`` too.

    A cell whose weights or data are missing does not stop the others; it is named and has no file.

    Args:
        out_dir (Path): Made if missing; ``CELL.json`` in it are the results.
        settings (dict): What all cells have in common, such as the number of images.
        rows (Mapping[Any, str]): Titles of the rows, by what they are.
        columns (Mapping[Any, str]): Titles of the columns likewise.
        cell_of (Callable): Name of a row and column's file; several may share one.
        run (Callable): Result of a row and a column.
        figures (Sequence[str]): What is shown of a result: the first of these that it has.
        paper (Callable): The paper's value of a row and a column. Default: none.
        digits (int): Decimals. Default: 1.
        head (str): Title of the rows' titles. Default: ``''``.
        say (Callable[[str], None]): Called with a line per cell. Default: nothing.

    Returns:
        str: The table.

    Raises:
        ValueError: If the folder was begun with other settings.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    begun, text = out_dir / 'settings.txt', json.dumps(settings, indent=1, default=str)
    if begun.exists() and begun.read_text() != text:
        raise ValueError(f'{out_dir} was begun with other settings ({begun}): name another folder')
    begun.write_text(text)
    places = {cell_of(*place): place for place in itertools.product(rows, columns)}
    results = {}
    for number, (cell, place) in enumerate(places.items(), start=1):
        path = out_dir / f'{cell}.json'
        if not path.exists():
            try:
                content = json.dumps(run(*place), indent=1)
            except (ValueError, OSError) as error:
                say(f'[{number}/{len(places)}] {cell}: left out: {error}')
                continue
            with replaced(path) as file:
                file.write(content.encode())
        results[cell] = json.loads(path.read_text())
        say(f'[{number}/{len(places)}] {cell}: {results[cell]}')
    lines = []
    for row, title in rows.items():
        line = [title]
        for column in columns:
            result = results.get(cell_of(row, column), {})
            value = next((result[name] for name in figures if name in result), None)
            line.append(with_paper(value, paper(row, column), digits))
        lines.append(line)
    table = markdown_table([head, *columns.values()], lines)
    (out_dir / 'table.md').write_text(table + '\n')
    return table


def with_paper(value: float | None, paper: float | None, digits: int = 1) -> str:
    """``'80.2 (paper 80.1)'``; a dash for what is not known."""
    ours = '-' if value is None else f'{value:.{digits}f}'
    return ours if paper is None else f'{ours} (paper {paper:.{digits}f})'
