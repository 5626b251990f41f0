"""AP over speed, from what the Table 3 sweep and the benchmark wrote."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmdet_atc.studies.table3 import Cell, all_cells
from mmdet_atc.studies.table3.cells import ALL_METHODS
from mmdet_atc.studies.tables import markdown_table

APS = ('box_ap', 'mask_ap')
_MARKERS = dict(tiny='o', small='s')
_FRONT: dict[str, Any] = dict(color='0.75', linewidth=6)


@dataclasses.dataclass(frozen=True)
class Point:
    """A model with its AP in per cent and its speed."""

    cell: Cell
    box_ap: float
    mask_ap: float
    images_per_s: float


def read_cells(folder: Path) -> dict[Cell, dict]:
    """Figures of a sweep's finished cells.

    Args:
        folder (Path): The sweep's ``--out-dir``, or its folder ``cells``.

    Returns:
        dict[Cell, dict]: In the order of the paper's table.

    Raises:
        FileNotFoundError: If there is no finished cell.
        ValueError: If a file is not one of a sweep's cells.
    """
    files = list((folder / 'cells').glob('*.json')) or list(folder.glob('*.json'))
    if not files:
        raise FileNotFoundError(
            f'{folder}: no cells/*.json; give the --out-dir of tools/reproduce_table3.py'
        )
    cells = {cell.name: cell for cell in all_cells(methods=ALL_METHODS)}
    found = {}
    for path in files:
        if path.stem not in cells:
            raise ValueError(f'{path}: not named as a cell of Table 3')
        try:
            found[path.stem] = figures = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f'{path}: no JSON ({error})') from error
        if missing := {*APS, 'images_per_s'} - set(figures):
            raise ValueError(f'{path}: lacks {", ".join(sorted(missing))}')
    return {cell: found[name] for name, cell in cells.items() if name in found}


def benchmarked_speeds(path: Path, measure: str, batch: int | None = None) -> dict[str, float]:
    """Images per second of each config in a benchmark.

    Args:
        path (Path): ``benchmark.json`` of ``tools/analysis_tools/benchmark.py``.
        measure (str): What was measured: ``'backbone'``, ``'detector'`` or ``'training'``.
        batch (int, optional): Images per batch; the first that was measured if None.
            Default: None.

    Returns:
        dict[str, float]: By the name of the config.

    Raises:
        ValueError: If the file is no benchmark, or has no such measurement or batch.
    """
    content = json.loads(path.read_text())
    rows = content.get('rows') if isinstance(content, dict) else None
    if not rows or 'seconds' not in rows[0]:
        raise ValueError(f'{path} is no benchmark.json of tools/analysis_tools/benchmark.py')
    batch = rows[0]['batch'] if batch is None else batch
    chosen = [row for row in rows if row['batch'] == batch]
    if not chosen:
        batches = sorted({row['batch'] for row in rows})
        raise ValueError(f'{path}: batch must be one of {batches}, got {batch}')
    kinds = list(chosen[0]['seconds'])
    if measure not in kinds:
        raise ValueError(f'{path}: measure must be one of {kinds}, got {measure!r}')
    return {row['name']: batch / statistics.median(row['seconds'][measure]) for row in chosen}


def points(figures: Mapping[Cell, dict], speeds: Mapping[str, float] | None = None) -> list[Point]:
    """Join accuracy and speed.

    Args:
        figures (Mapping[Cell, dict]): What :func:`read_cells` returns.
        speeds (Mapping[str, float], optional): What :func:`benchmarked_speeds` returns; cells whose
            config it lacks are left out. None takes the speed that the evaluation itself had,
            loading and post-processing included. Default: None.

    Returns:
        list[Point]: In the order of ``figures``.

    Raises:
        ValueError: If no cell's config was benchmarked.
    """
    joined = []
    for cell, values in figures.items():
        speed = values['images_per_s'] if speeds is None else speeds.get(Path(cell.config).stem)
        if speed is not None:
            joined.append(Point(cell, values['box_ap'], values['mask_ap'], speed))
    if not joined:
        raise ValueError(
            'no cell of the sweep has its config in the benchmark, which has '
            f'{", ".join(speeds or ())}; benchmark the configs of the cells without overrides'
        )
    return joined


def pareto_front(candidates: Sequence[Point], ap: str) -> list[Point]:
    """Points that no other one beats: at least as good in both, better in one.

    ``ap`` is ``'box_ap'`` or ``'mask_ap'``. The fastest is first; equal points are all there.
    """
    values = [(point.images_per_s, getattr(point, ap)) for point in candidates]

    def is_beaten(speed: float, accuracy: float) -> bool:
        return any(s >= speed and a >= accuracy and (s, a) != (speed, accuracy) for s, a in values)

    front = [p for p, value in zip(candidates, values, strict=True) if not is_beaten(*value)]
    return sorted(front, key=lambda point: -point.images_per_s)


def pareto_table(found: Sequence[Point]) -> str:
    """Markdown: all points, those on a front marked."""
    fronts = {ap: pareto_front(found, ap) for ap in APS}
    head = ['size', 'regime', 'method', 'keep rate', 'images/s', 'box AP', 'mask AP', 'on front']
    rows = []
    for point in found:
        on = [ap.split('_')[0] for ap in APS if point in fronts[ap]]
        figures = map(float, (point.images_per_s, point.box_ap, point.mask_ap))
        rows.append([*dataclasses.astuple(point.cell), *figures, ', '.join(on) or None])
    return markdown_table(head, rows)


def plot_pareto(found: Sequence[Point], path: Path, speed: str) -> None:
    """Box and mask AP over speed: colour per method, marker per size, hollow if off-the-shelf.

    The larger the keep rate, the larger the marker.

    Args:
        found (Sequence[Point]): Points.
        path (Path): Picture to write.
        speed (str): What the speed is of, for the axis.
    """
    figure = Figure(figsize=(12, 6), layout='constrained')
    methods = list(dict.fromkeys(point.cell.method for point in found))
    colours = {m: 'black' if m == 'dense' else f'C{i}' for i, m in enumerate(methods)}
    groups: dict[tuple, list[Point]] = {}
    for point in found:
        groups.setdefault((point.cell.size, point.cell.regime, point.cell.method), []).append(point)
    for axes, ap in zip(figure.subplots(1, 2), APS, strict=True):
        front = pareto_front(found, ap)
        x, y = [p.images_per_s for p in front], [getattr(p, ap) for p in front]
        axes.plot(x, y, drawstyle='steps-post', zorder=0, **_FRONT)
        for (size, regime, method), line in groups.items():
            line = sorted(line, key=lambda p: p.cell.keep_rate)
            x, y = [p.images_per_s for p in line], [getattr(p, ap) for p in line]
            axes.plot(x, y, color=colours[method], linewidth=1)
            axes.scatter(
                x,
                y,
                s=[_area(p.cell.keep_rate) for p in line],
                marker=_MARKERS[size],
                edgecolors=colours[method],
                facecolors='white' if regime == 'off-the-shelf' else colours[method],
                zorder=2,
            )
        axes.set(xlabel=f'images/s, {speed}', ylabel=ap.replace('_ap', ' AP, %'))
        axes.grid(alpha=0.3)
    rates = sorted({p.cell.keep_rate for p in found if p.cell.method != 'dense'})
    dots = [
        *(dict(marker=marker, label=size[0].upper()) for size, marker in _MARKERS.items()),
        dict(marker='o', markerfacecolor='white', label='off-the-shelf'),
        *(dict(marker='o', markersize=_area(r) ** 0.5, label=f'keep rate .{r}') for r in rates),
    ]
    handles = [
        *(Line2D([], [], color=colours[method], label=method) for method in methods),
        *(Line2D([], [], color='0.3', linestyle='none', **dot) for dot in dots),
        Line2D([], [], label='Pareto front', **_FRONT),
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=6)
    figure.savefig(path, dpi=120)


def _area(keep_rate: int) -> float:
    """Area of a marker in square points: the more tokens, the larger."""
    return 8 + 0.6 * keep_rate
