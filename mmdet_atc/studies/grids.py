"""Grids of runs that go on where they stopped: a JSON file per cell, the paper's values beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from mmdet_atc.checkpoints import replaced

_TABLES = json.loads(Path(__file__).with_name('paper_tables.json').read_text())


def paper_value(table: str, row: str, column: str | float) -> float | None:
    """The paper's value of a cell of ``'table1'`` or ``'table2'``; None where it has none."""
    content = _TABLES[table]
    if row not in content['rows'] or column not in content['columns']:
        return None
    return content['rows'][row][content['columns'].index(column)]


def run_cells(
    out_dir: Path,
    settings: dict,
    cells: Sequence[str],
    run: Callable[[str], dict],
    say: Callable[[str], None],
) -> dict[str, dict]:
    """Run the cells that have no file yet.

    A cell whose weights or data are missing does not stop the others; it is named and has no file.

    Args:
        out_dir (Path): Made if missing; ``CELL.json`` in it are the results.
        settings (dict): What all cells have in common, such as the number of images.
        cells (Sequence[str]): Names of files without an ending.
        run (Callable[[str], dict]): Result of a cell.
        say (Callable[[str], None]): Called with a line per cell.

    Returns:
        dict[str, dict]: Results of the cells that have one.

    Raises:
        ValueError: If the folder was begun with other settings.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    begun, text = out_dir / 'settings.txt', json.dumps(settings, indent=1, default=str)
    if begun.exists() and begun.read_text() != text:
        raise ValueError(f'{out_dir} was begun with other settings ({begun}): name another folder')
    begun.write_text(text)
    results = {}
    for number, cell in enumerate(cells, start=1):
        path = out_dir / f'{cell}.json'
        if not path.exists():
            try:
                content = json.dumps(run(cell), indent=1)
            except (ValueError, OSError) as error:
                say(f'[{number}/{len(cells)}] {cell}: left out: {error}')
                continue
            with replaced(path) as file:
                file.write(content.encode())
        results[cell] = json.loads(path.read_text())
        say(f'[{number}/{len(cells)}] {cell}: {results[cell]}')
    return results


def with_paper(value: float | None, paper: float | None, digits: int = 1) -> str:
    """``'80.2 (paper 80.1)'``; a dash for what is not known."""
    ours = '-' if value is None else f'{value:.{digits}f}'
    return ours if paper is None else f'{ours} (paper {paper:.{digits}f})'
