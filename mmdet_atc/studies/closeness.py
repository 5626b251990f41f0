"""How close a merging ViT's final patch features stay to the dense model's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mmdet_atc.classification.methods import CLASSIFIER_METHODS
from mmdet_atc.integrations.timm import apply_merging, remove_merging
from mmdet_atc.merging import (
    TOKEN_MERGERS,
    TokenClusters,
    TokenMerger,
    build_merger,
    keep_rate_plan,
)
from mmdet_atc.studies.tables import markdown_table

#: Config of what is compared, by name.
COMPARED: dict[str, dict] = {**CLASSIFIER_METHODS, 'random': dict(type='RandomMerging')}


@TOKEN_MERGERS.register_module()
class RandomMerging(TokenMerger):
    """Clusters drawn at random, none of them empty: the floor of any comparison.

    Args:
        keep_rate (float | Sequence[float]): As :class:`TokenMerger`. Default: 0.5.
        seed (int): Of the draws. Default: 0.
    """

    def __init__(self, keep_rate: float | Sequence[float] = 0.5, seed: int = 0) -> None:
        super().__init__(keep_rate)
        self.generator = torch.Generator().manual_seed(seed)

    def assign(self, keys: Tensor, num_clusters: int) -> Tensor:
        batch, num_tokens, _ = keys.shape
        rows = []
        for _ in range(batch):
            order = torch.randperm(num_tokens, generator=self.generator)
            row = torch.randint(num_clusters, (num_tokens,), generator=self.generator)
            row[order[:num_clusters]] = torch.arange(num_clusters)
            rows.append(row)
        return torch.stack(rows).to(keys.device)


@dataclass(frozen=True)
class Closeness:
    """Mean cosine of final patch features with the dense model's.

    Args:
        method (str): A name of :data:`COMPARED`.
        keep_rate (float): Share of the tokens that stays at each merge.
        clusters (int): How many are left at the end, of the first image.
        cosines (tuple[float, ...]): Mean over the patches of each image.
    """

    method: str
    keep_rate: float
    clusters: int
    cosines: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.cosines) / len(self.cosines)


@torch.no_grad()
def closeness(
    model: VisionTransformer,
    images: Sequence[Tensor],
    methods: Iterable[str] = tuple(COMPARED),
    keep_rates: Sequence[float] = (0.25, 0.5, 0.7, 0.9),
    blocks: Sequence[int] = (3, 6, 9),
    proportional_attn: bool = True,
    size_weighted: bool = True,
) -> Iterable[Closeness]:
    """Compare methods and keep rates on one model.

    Args:
        model (VisionTransformer): In evaluation; it is not changed.
        images (Sequence[Tensor]): Each ``(1, 3, H, W)``, normalised; sizes may differ.
        methods (Iterable[str]): Names of :data:`COMPARED`.
        keep_rates (Sequence[float]): Shares that stay at each merge.
        blocks (Sequence[int]): 0-based blocks that merge.
        proportional_attn, size_weighted (bool): As of ``apply_merging``.

    Yields:
        Closeness: One per method and keep rate.
    """
    remove_merging(model)
    num_prefix = model.num_prefix_tokens
    dense = [model.forward_features(image)[0, num_prefix:] for image in images]
    for method in methods:
        merger = build_merger(COMPARED[method])
        for keep_rate in keep_rates:
            plan = keep_rate_plan(keep_rate, blocks)
            apply_merging(model, merger, plan, proportional_attn, size_weighted)
            cosines, clusters = [], 0
            for image, features in zip(images, dense, strict=True):
                merged = model.forward_features(image)[0, num_prefix:]
                stages: Sequence[TokenClusters] = model.token_clusters  # type: ignore[assignment]
                clusters = clusters or stages[-1].num_clusters
                cosines.append(F.cosine_similarity(merged, features, dim=-1).mean().item())
            remove_merging(model)
            yield Closeness(method, keep_rate, clusters, tuple(cosines))


def closeness_table(rows: Sequence[Closeness]) -> str:
    """Markdown: a line per method, a column per keep rate."""
    rates = sorted({row.keep_rate for row in rows})
    means = {(row.method, row.keep_rate): row.mean for row in rows}
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        cells = (means.get((method, rate)) for rate in rates)
        lines.append([method, *(None if mean is None else f'{mean:.3f}' for mean in cells)])
    return markdown_table(['method', *(f'r={rate}' for rate in rates)], lines)


def plot_closeness(rows: Sequence[Closeness], path: Path) -> None:
    """Mean cosine over keep rate, a line per method."""
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for method in dict.fromkeys(row.method for row in rows):
        points = sorted((row.keep_rate, row.mean) for row in rows if row.method == method)
        axes.plot(*zip(*points, strict=True), marker='o', label=method)
    axes.set(xlabel='keep rate at each merge', ylabel="cosine with the dense model's features")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
