"""Tables and a plot of a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmdet_atc.studies.figures import Measurement
from mmdet_atc.studies.tables import markdown_table

from .measure import Row
from .stages import STAGES


def speed_table(rows: Sequence[Row]) -> str:
    """Markdown: images per second, speed-up over the first row of the same batch, peak memory."""
    kinds = list(rows[0].seconds)
    head = ['model', 'batch', 'tokens (first, last block)']
    head += [f'{kind}, img/s' for kind in kinds] + [f'{kind}, MiB' for kind in kinds]
    lines = []
    for row in rows:
        base = _base(rows, row)
        cells = [row.name, row.batch, f'{row.tokens[0]}, {row.tokens[-1]}']
        for kind in kinds:
            images = row.batch / statistics.median(row.seconds[kind])
            cells.append(f'{images:.2f} ({row.speed_up(base, kind):.2f}x)')
        for kind in kinds:
            peak = row.peak_mib[kind]
            cells.append(None if peak is None else f'{peak:.0f}')
        lines.append(cells)
    return markdown_table(head, lines)


def stage_table(rows: Sequence[Row]) -> str:
    """Markdown: milliseconds per stage of a call and in all, of the rows that have them."""
    stages = [stage for stage in STAGES if any(stage in row.stages for row in rows)]
    head = ['model', 'batch', *(f'{stage}, ms' for stage in stages), 'whole, ms']
    lines = []
    for row in rows:
        if not row.stages:
            continue
        seconds = [row.stages.get(stage, 0) for stage in stages]
        cells = [f'{value * 1e3:.0f}' for value in [*seconds, sum(seconds)]]
        lines.append([row.name, row.batch, *cells])
    return markdown_table(head, lines)


def figures(rows: Sequence[Row], amp: str, shape: Sequence[int]) -> Iterator[Measurement]:
    """Times, speed-ups and peaks as :func:`~mmdet_atc.studies.figures.append_figures` takes them.

    ``shape`` is the height and width of the images.
    """
    for row in rows:
        case = f'{row.name}, batch {row.batch}, {shape[0]}x{shape[1]}, amp {amp}'
        for kind, seconds in row.seconds.items():
            yield case, f'{kind}, time', [1e3 * value for value in seconds], 'ms'
            yield case, f'{kind}, speed-up', [row.speed_up(_base(rows, row), kind)], 'x'
            peak = row.peak_mib[kind]
            if peak is not None:
                yield case, f'{kind}, peak memory', [peak], 'MiB'


def plot(rows: Sequence[Row], path: Path) -> None:
    """Speed relative to the first detector, one panel per measurement, as a picture at ``path``."""
    from matplotlib.figure import Figure

    kinds = list(rows[0].seconds)
    names = [f'{row.name} (batch {row.batch})' for row in rows]
    figure = Figure(figsize=(3.5 * len(kinds) + 3, 0.4 * len(rows) + 1.2), layout='constrained')
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        ratios = [row.speed_up(_base(rows, row), kind) for row in rows]
        bars = axes.barh(names, ratios)
        axes.bar_label(bars, fmt='%.2f', padding=2)
        axes.axvline(1, color='black', linewidth=0.8)
        axes.set(title=kind, xlabel='speed, first model = 1', xlim=(0, 1.2 * max(ratios)))
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def _base(rows: Sequence[Row], row: Row) -> Row:
    return next(other for other in rows if other.batch == row.batch)
