"""Tables and a plot of times of clustering, rows as :func:`.clustering.measure` returns them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from mmdet_atc.studies.figures import Measurement
from mmdet_atc.studies.tables import markdown_table

#: What a row is of.
_CASE = ('tokens', 'batch', 'linkage', 'keep_rate')


def as_table(rows: list[dict]) -> str:
    """Markdown: milliseconds (median), how many times faster the first method is, peak memory.

    The spread, slowest less fastest call over the median, is given where it is above a tenth.
    """
    names = list(dict.fromkeys(row['method'] for row in rows))
    head = ['tokens', 'batch', 'linkage', 'keep rate']
    head += [f'{name}, ms' for name in names] + [f'{name}, MiB' for name in names]
    lines = []
    for index in range(0, len(rows), len(names)):
        group = rows[index : index + len(names)]
        first = group[0]
        cells = [str(first[key]) for key in _CASE]
        for row in group:
            cell = f'{row["median_s"] * 1e3:.1f}'
            if row is not first:
                cell += f' ({row["median_s"] / first["median_s"]:.1f}x)'
            spread = (row['max_s'] - row['min_s']) / row['median_s']
            cells.append(cell if spread <= 0.1 else f'{cell} ±{spread / 2:.0%}')
        cells += ['-' if r['peak_mib'] is None else f'{r["peak_mib"]:.0f}' for r in group]
        lines.append(cells)
    return markdown_table(head, lines)


def growth_table(rows: list[dict]) -> str:
    """Markdown: the power of N with which time grows between the two largest sizes."""
    keys = ('method', 'batch', 'linkage', 'keep_rate')
    lines = []
    for case in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        same = [row for row in rows if tuple(row[key] for key in keys) == case]
        small, large = sorted(same, key=lambda row: row['tokens'])[-2:]
        power = math.log(large['median_s'] / small['median_s'])
        power /= math.log(large['tokens'] / small['tokens'])
        lines.append([*map(str, case), f'N^{power:.2f}'])
    return markdown_table(['method', 'batch', 'linkage', 'keep rate', 'time grows as'], lines)


def figures(rows: list[dict]) -> Iterator[Measurement]:
    """Times and peaks as :func:`~mmdet_atc.studies.figures.append_figures` takes them."""
    for row in rows:
        case = (
            f'{row["tokens"]} tokens, batch {row["batch"]}, {row["linkage"]}, r={row["keep_rate"]}'
        )
        yield case, f'{row["method"]}, time', [1e3 * seconds for seconds in row['seconds']], 'ms'
        if row['peak_mib'] is not None:
            yield case, f'{row["method"]}, peak memory', [row['peak_mib']], 'MiB'


def plot(rows: list[dict], path: Path) -> None:
    """Seconds over tokens, one line per method, both axes logarithmic.

    One column of axes per linkage, one row per batch and keep rate.
    """
    from matplotlib.figure import Figure

    linkages = list(dict.fromkeys(row['linkage'] for row in rows))
    settings = list(dict.fromkeys((row['batch'], row['keep_rate']) for row in rows))
    figure = Figure(figsize=(4.5 * len(linkages), 4 * len(settings)), layout='constrained')
    grid = figure.subplots(len(settings), len(linkages), squeeze=False)
    for axes, ((batch, rate), linkage) in zip(grid.flat, itertools.product(settings, linkages)):
        lines: dict[str, list[tuple]] = {}
        for row in rows:
            if (row['batch'], row['keep_rate'], row['linkage']) == (batch, rate, linkage):
                lines.setdefault(row['method'], []).append((row['tokens'], row['median_s']))
        for method, points in lines.items():
            axes.loglog(*zip(*points, strict=True), 'o-', label=method)
        axes.set_title(f'{linkage} linkage, batch {batch}, keep rate {rate}')
        axes.set(xlabel='tokens', ylabel='seconds (median)')
        axes.grid(True, which='both', alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
