"""Tables of what was measured of backbones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mmdet_atc.studies.figures import Measurement
from mmdet_atc.studies.tables import markdown_table


class BackboneFigure(NamedTuple):
    """One measured number."""

    model: str  #: ``'dense'`` is what the others are compared with
    setting: str  #: precision, batch size and how it ran
    what: str  #: what was measured, with its unit
    value: float


def figures_table(figures: list[BackboneFigure]) -> str:
    """Markdown: a row per setting and measure, a column per model; times also over the dense one's.

    Stages have :func:`stage_table`.
    """
    models = _models(figures)
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for figure in figures:
        cells.setdefault((figure.setting, figure.what), {})[figure.model] = figure.value
    lines = []
    for (setting, what), values in cells.items():
        if ', ' in what:
            continue
        line = [f'{setting}: {what}']
        for model in models:
            value, base = values.get(model), values.get('dense')
            text = '' if value is None else f'{value:.2f}' if 'ms' in what else f'{value:.0f}'
            if value and base and 'ms' in what and model != 'dense':
                text += f' ({base / value:.2f}x)'
            line.append(text)
        lines.append(line)
    return markdown_table(['', *models], lines)


def stage_table(figures: list[BackboneFigure], bandwidth: float | None = None) -> str:
    """Markdown, a table per model: time, launches and bytes by stage.

    With ``bandwidth``, bytes a second that the device's memory moves, also the least time that the
    bytes take.
    """
    tables = []
    for model in _models(figures):
        mine = {f.what: f.value for f in figures if f.model == model and ', ' in f.what}
        stages = [what.rpartition(', ')[0] for what in mine if what.endswith(', ms')]
        if not stages:
            continue
        head = [model, 'ms', 'launches', 'MiB moved', *(['floor, ms', 'of it'] * bool(bandwidth))]
        lines = []
        rows = [[mine[f'{s}, {w}'] for w in ('ms', 'launches', 'MiB moved')] for s in stages]
        rows.append([sum(column) for column in zip(*rows, strict=True)])
        for stage, (ms, launches, moved) in zip([*stages, 'all'], rows, strict=True):
            line = [stage, f'{ms:.2f}', f'{launches:.0f}', f'{moved:.0f}']
            if bandwidth:
                floor = 1e3 * moved * 2**20 / bandwidth
                line += [f'{floor:.2f}', f'{floor / ms:.2f}']
            lines.append(line)
        tables.append(markdown_table(head, lines))
    return '\n\n'.join(tables)


def csv_figures(figures: list[BackboneFigure]) -> Iterator[Measurement]:
    """The figures as :func:`~mmdet_atc.studies.figures.append_figures` takes them."""
    for figure in figures:
        unit = next(unit for unit in ('ms', 'MiB', 'launches') if unit in figure.what)
        yield f'{figure.model}, {figure.setting}', figure.what, [figure.value], unit


def _models(figures: list[BackboneFigure]) -> list[str]:
    return list(dict.fromkeys(figure.model for figure in figures))
