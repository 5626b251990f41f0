"""Run a merging detector over annotated images and add up what its clusters are like."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.models.detectors import BaseDetector

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.visualization.predict import label_maps

from .agreement import MEASURES
from .segments import Segments, cluster_overlap, patch_overlap
from .survival import REGIONS, cluster_sizes, region_shares, tokens_per_region


def regular_blocks(grid: tuple[int, int], num_clusters: int) -> np.ndarray:
    """A partition that sees nothing of the picture: rectangles of about equal, about square size.

    Args:
        grid (tuple[int, int]): Height and width of the patch grid.
        num_clusters (int): At most so many rectangles, at least 1.

    Returns:
        ndarray: Labels, ``grid`` int64.
    """
    height, width = grid
    rows = min(max(1, round(math.sqrt(num_clusters * height / width))), height, num_clusters)
    cols = min(num_clusters // rows, width)
    row, col = np.arange(height) * rows // height, np.arange(width) * cols // width
    return row[:, None] * cols + col


@dataclass
class Partition:
    """Figures of one kind of partition, over images.

    Args:
        block (int): Paper's number of the merge block; 0 for unmerged patches.
        tokens (list[int]): Clusters of each image.
        agreement (dict[str, list[float]]): Of each image, by the names of ``MEASURES``; NaN where
            an image has no pixel that counts.
        regions (ndarray): Tokens of each of ``REGIONS``, summed over images.
        sizes (ndarray): Clusters of ``2**i`` to ``2**(i + 1) - 1`` patches, summed over images.
        padding_clusters (int): Clusters of padding alone, which ``sizes`` leaves out.
    """

    block: int
    tokens: list[int] = field(default_factory=list)
    agreement: dict[str, list[float]] = field(default_factory=lambda: {m: [] for m in MEASURES})
    regions: np.ndarray = field(default_factory=lambda: np.zeros(len(REGIONS)))
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    padding_clusters: int = 0

    def add(self, labels: np.ndarray, patches: np.ndarray, shares: np.ndarray) -> None:
        """Count one more image.

        Args:
            labels (ndarray): Cluster of each patch, ``(h, w)`` int, values ``0 .. K - 1``.
            patches (ndarray): ``patch_overlap`` of the image.
            shares (ndarray): ``region_shares`` of the image.
        """
        self.tokens.append(int(labels.max()) + 1)
        without_void = cluster_overlap(patches, labels)[:, :-1]
        for name, measure in MEASURES.items():
            self.agreement[name].append(measure(without_void))
        self.regions += tokens_per_region(shares, labels)
        sizes, padding = cluster_sizes(shares, labels)
        bins = max(len(sizes), len(self.sizes))
        sizes, before = (np.pad(each, (0, bins - len(each))) for each in (sizes, self.sizes))
        self.sizes = sizes + before
        self.padding_clusters += padding

    def mean(self, name: str) -> float:
        """Mean of a measure over the images that have it; NaN where none has."""
        values = np.array(self.agreement[name])
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float('nan')


@dataclass
class Analysis:
    """A detector's clusters beside two partitions that know nothing of it.

    Args:
        method (str): How tokens are merged, such as ``AgglomerativeMerging average``.
        keep_rates (tuple[float, ...]): Of each merge.
        patches (Partition): Every patch for itself: what the patch grid alone costs.
        stages (list[Partition]): After each merge.
        blocks (list[Partition]): Regular rectangles, as many as clusters after each merge.
    """

    method: str
    keep_rates: tuple[float, ...]
    patches: Partition
    stages: list[Partition]
    blocks: list[Partition]


def analyse(model: BaseDetector, dataset: CocoDataset, indices: Iterable[int]) -> Analysis:
    """Compare the clusters of images with their ground truth.

    Args:
        model (BaseDetector): A detector with an ``ATCViTAdapter`` that merges, in eval mode.
        dataset (CocoDataset): Instance masks and a pipeline that resizes only.
        indices (Iterable[int]): Which images; each is run by itself.

    Returns:
        Analysis: The figures.

    Raises:
        ValueError: If the backbone merges no tokens or a sample has no masks.
    """
    backbone = model.backbone
    if not isinstance(backbone, ATCViTAdapter) or backbone.merger is None:
        raise ValueError(
            f'the backbone {type(backbone).__name__} merges no tokens: choose a config that merges'
        )
    numbers = [block + 1 for block in backbone.merge_blocks]
    result = Analysis(
        ' '.join([type(backbone.merger).__name__, getattr(backbone.merger, 'linkage', '')]).strip(),
        tuple(backbone.keep_rates.values()),
        Partition(0),
        [Partition(n) for n in numbers],
        [Partition(n) for n in numbers],
    )
    for index in indices:
        sample = dataset[index]
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        maps = [labels[0] for labels in label_maps(model, batch)]
        grid = maps[0].shape
        truth = sample['data_samples']
        segments = _segments(truth, dataset)
        patches = patch_overlap(segments, truth.img_shape, grid, backbone.patch_size)
        shares = region_shares(segments, patches)
        result.patches.add(np.arange(maps[0].size).reshape(grid), patches, shares)
        for labels, stage, blocks in zip(maps, result.stages, result.blocks, strict=True):
            stage.add(labels, patches, shares)
            blocks.add(regular_blocks(grid, int(labels.max()) + 1), patches, shares)
    return result


def _segments(truth, dataset: CocoDataset) -> Segments:
    if 'masks' not in truth.gt_instances:
        raise ValueError(
            f'{truth.img_path}: no masks were loaded; the pipeline needs '
            f"dict(type='LoadAnnotations', with_mask=True), and {dataset.ann_file} masks"
        )
    ignored = truth.ignored_instances.masks.to_ndarray()
    return Segments.of_masks(truth.gt_instances.masks.to_ndarray(), ignored)
