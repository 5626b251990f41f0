"""Tables of figures as Markdown, and the files that they go to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a line per row.

    Args:
        head (Sequence[str]): Titles of the columns.
        rows (Iterable[Sequence]): Cells of each row: text as it is, floats with two decimals,
            ``-`` for None.

    Returns:
        str: The table, without a line break at the end.

    Raises:
        ValueError: If a row has another number of cells than the head.
    """
    lines = [_line(head), '|' + ' --- |' * len(head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f'{len(head)} columns, but a row of {len(row)} cells: {row}')
        lines.append(_line([_shown(cell) for cell in row]))
    return '\n'.join(lines)


def write_results(path: Path, content: dict, text: str) -> None:
    """Write figures for machines and tables for people.

    Args:
        path (Path): Without a suffix: ``.json`` and ``.md`` are added, missing folders made.
        content (dict): Of the JSON file.
        text (str): Of the Markdown file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix('.json').write_text(json.dumps(content, indent=1))
    path.with_suffix('.md').write_text(text + '\n')


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _shown(cell: object) -> str:
    if cell is None:
        return '-'
    return f'{cell:.2f}' if isinstance(cell, float) else str(cell)
