"""Plots of analyses, given by the name of the detector.

A method has a colour, a keep rate a marker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .agreement import MEASURES
from .collect import Analysis, Partition
from .report import bin_name, measure_title, survival
from .survival import REGIONS

_MARKERS = 'osD^vP*X<>'
_DASHES = ('-', '--', ':', '-.')


def plot_agreement(analyses: Mapping[str, Analysis], path: Path) -> None:
    """Each measure over the tokens that are left, one line per detector through its merges.

    Dashed: as many regular blocks. Dotted: single patches, which merging can better in
    object purity alone.
    """
    figure = Figure(figsize=(11, 8.5 + 0.18 * len(analyses)), layout='constrained')
    panels = figure.subplots(2, 2).ravel()
    every = list(analyses.values())
    styles = _styles(analyses)
    blocks = {_left(a.patches, b): b for a in every for b in a.blocks}
    for axes, measure in zip(panels, MEASURES, strict=True):
        for name, analysis in analyses.items():
            x = [_left(analysis.patches, stage) for stage in analysis.stages]
            y = [100 * stage.mean(measure) for stage in analysis.stages]
            axes.plot(x, y, **styles[name], label=name)
        levels = sorted(blocks)
        regular = [100 * blocks[level].mean(measure) for level in levels]
        axes.plot(levels, regular, '--', color='black', linewidth=1, label='regular blocks')
        bound = 100 * every[0].patches.mean(measure)
        axes.axhline(bound, color='black', linestyle=':', linewidth=1, label='single patches')
        better = 'lower' if 'error' in measure else 'higher'
        axes.set(
            title=f'{measure_title(measure)} ({better} is better)',
            xlabel='tokens left, %',
            ylabel='%',
            xscale='log',
        )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    _legend_below(figure, panels[0])
    figure.savefig(path, dpi=120)


def plot_sizes(analyses: Mapping[str, Analysis], path: Path) -> None:
    """Clusters per image by their size in patches, one panel per merge block."""

    def per_image(analysis: Analysis, stage: Partition) -> np.ndarray:
        counts = stage.sizes / len(stage.tokens)
        return np.where(counts > 0, counts, np.nan)

    figure, panels = _panels_of_blocks(analyses, per_image, sharey=True)
    for axes in panels:
        bins = max(len(line.get_xdata()) for line in axes.lines)
        axes.set(xlabel='patches in a cluster', yscale='log')
        axes.set_xticks(range(bins), [bin_name(i) for i in range(bins)], rotation=45)
    panels[0].set_ylabel('clusters per image')
    figure.savefig(path, dpi=120)


def plot_survival(analyses: Mapping[str, Analysis], path: Path) -> None:
    """Share of each region's tokens that is left, one panel per merge block."""
    patches = next(iter(analyses.values())).patches
    shown = [i for i, count in enumerate(patches.regions) if count > 0]
    names = [REGIONS[i] for i in shown]

    def rates(analysis: Analysis, stage: Partition) -> np.ndarray:
        return 100 * survival(analysis.patches, stage)[shown]

    figure, panels = _panels_of_blocks(analyses, rates)
    for axes in panels:
        axes.set_ylim(bottom=0)
        axes.set_xticks(range(len(names)), names, rotation=30, horizontalalignment='right')
    panels[0].set_ylabel("tokens left, % of the region's patches")
    figure.savefig(path, dpi=120)


def _panels_of_blocks(
    analyses: Mapping[str, Analysis],
    values: Callable[[Analysis, Partition], np.ndarray],
    **options: Any,
) -> tuple[Any, Any]:
    """A figure with a panel per merge block, in which each detector has a line."""
    blocks = sorted({stage.block for analysis in analyses.values() for stage in analysis.stages})
    figure = Figure(
        figsize=(1.5 + 4 * len(blocks), 4.5 + 0.18 * len(analyses)), layout='constrained'
    )
    panels = figure.subplots(1, len(blocks), squeeze=False, **options)[0]
    for (name, analysis), style in zip(analyses.items(), _styles(analyses).values(), strict=True):
        for stage in analysis.stages:
            axes, shown = panels[blocks.index(stage.block)], values(analysis, stage)
            axes.plot(range(len(shown)), shown, **style, label=name)
    for axes, block in zip(panels, blocks, strict=True):
        axes.set(title=f'after block {block}')
        axes.grid(alpha=0.3)
    _legend_below(figure, panels[0])
    return figure, panels


def _left(patches: Partition, stage: Partition) -> float:
    """Tokens left of all, in per cent."""
    return 100 * sum(stage.tokens) / sum(patches.tokens)


def _styles(analyses: Mapping[str, Analysis]) -> dict[str, dict]:
    """Line of each detector; those of one method and keep rate differ by their dashes."""
    colours: dict[str, str] = {}
    markers: dict[tuple, str] = {}
    repeats: Counter[tuple] = Counter()
    styles = {}
    for name, analysis in analyses.items():
        colour = colours.setdefault(analysis.method, f'C{len(colours) % 10}')
        marker = markers.setdefault(analysis.keep_rates, _MARKERS[len(markers) % len(_MARKERS)])
        dashes = _DASHES[repeats[colour, marker] % len(_DASHES)]
        repeats[colour, marker] += 1
        styles[name] = dict(
            color=colour, marker=marker, linestyle=dashes, markersize=5, linewidth=1.2
        )
    return styles


def _legend_below(figure, axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=2, fontsize=9)
