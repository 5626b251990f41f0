"""Tables and JSON of analyses, which are given by the name of the detector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmdet_atc.studies.tables import markdown_table

from .agreement import MEASURES
from .collect import Analysis, Partition
from .survival import REGIONS


def as_json(analyses: Mapping[str, Analysis]) -> list[dict[str, Any]]:
    """Figures as plain values, one entry per detector; NaN becomes None."""
    return [
        dict(
            name=name,
            method=analysis.method,
            keep_rates=list(analysis.keep_rates),
            patches=_record(analysis.patches),
            stages=[_record(stage) for stage in analysis.stages],
            blocks=[_record(blocks) for blocks in analysis.blocks],
        )
        for name, analysis in analyses.items()
    ]


def agreement_table(analyses: Mapping[str, Analysis]) -> str:
    """Markdown: measures in per cent after each merge, beside those of equally many blocks."""
    head = ['model', 'after', 'tokens', *map(measure_title, MEASURES)]
    patches = next(iter(analyses.values())).patches
    lines = [['single patches', '-', _tokens(patches), *_measures(patches)]]
    for name, analysis in analyses.items():
        for stage, blocks in zip(analysis.stages, analysis.blocks, strict=True):
            cells = [
                f'{ours} ({theirs})'
                for ours, theirs in zip(_measures(stage), _measures(blocks), strict=True)
            ]
            lines.append([name, f'block {stage.block}', _tokens(stage), *cells])
    return markdown_table(head, lines)


def survival_table(analyses: Mapping[str, Analysis]) -> str:
    """Markdown: per cent of each region's tokens that is left after each merge.

    ``-`` stands where the images have nothing of a region.
    """
    lines = []
    for name, analysis in analyses.items():
        for stage in analysis.stages:
            rates = survival(analysis.patches, stage)
            overall = stage.regions.sum() / analysis.patches.regions.sum()
            cells = [_percent(rate) for rate in (overall, *rates)]
            lines.append([name, f'block {stage.block}', *cells])
    return markdown_table(['model', 'after', 'all', *REGIONS], lines)


def size_table(analyses: Mapping[str, Analysis]) -> str:
    """Markdown: clusters per image by size in patches, those of padding alone in a column apart."""
    bins = max(len(stage.sizes) for each in analyses.values() for stage in each.stages)
    lines = []
    for name, analysis in analyses.items():
        for stage in analysis.stages:
            images = len(stage.tokens)
            sizes = np.pad(stage.sizes, (0, bins - len(stage.sizes)))
            cells = [f'{count / images:.1f}' for count in (*sizes, stage.padding_clusters)]
            lines.append([name, f'block {stage.block}', *cells])
    return markdown_table(['model', 'after', *map(bin_name, range(bins)), 'padding'], lines)


def survival(patches: Partition, stage: Partition) -> np.ndarray:
    """Share of each region's tokens that is left, ``(regions,)``; NaN where there were none."""
    before = np.where(patches.regions > 0, patches.regions, np.nan)
    return stage.regions / before


def measure_title(name: str) -> str:
    """A measure's name in words: ``under-segmentation error``."""
    return name.replace('under_', 'under-').replace('_', ' ')


def bin_name(index: int) -> str:
    """Sizes that a bin of ``Partition.sizes`` counts: ``1``, ``2-3``, ``4-7``, ..."""
    return '1' if index == 0 else f'{2**index}-{2 ** (index + 1) - 1}'


def _record(partition: Partition) -> dict[str, Any]:
    return dict(
        block=partition.block,
        images=len(partition.tokens),
        tokens=float(np.mean(partition.tokens)),
        agreement={name: _or_none(partition.mean(name)) for name in MEASURES},
        regions=dict(zip(REGIONS, partition.regions.tolist(), strict=True)),
        sizes={bin_name(i): int(count) for i, count in enumerate(partition.sizes)},
        padding_clusters=partition.padding_clusters,
    )


def _measures(partition: Partition) -> list[str]:
    return [_percent(partition.mean(name)) for name in MEASURES]


def _tokens(partition: Partition) -> str:
    return f'{np.mean(partition.tokens):.0f}'


def _percent(share: float) -> str:
    return '-' if math.isnan(share) else f'{100 * share:.1f}'


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
