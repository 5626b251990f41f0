"""From images and a detector to the label maps that are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.datasets.transforms import InferencerLoader
from mmdet.models.detectors import BaseDetector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from mmdet_atc.backbones import ATCViTAdapter, SViTAdapter, valid_sizes


@dataclass(frozen=True)
class ImageClusters:
    """Clusters of one image by one method.

    Args:
        image (ndarray): What the model saw, without padding: RGB, ``(H, W, 3)`` uint8.
        stages (tuple[ndarray, ...]): A label map of the padded patch grid, ``(h, w)`` int64, for
            each merge block.
        blocks (tuple[int, ...]): 0-based merge blocks.
        patch_size (int): Side of a patch in pixels. Default: 16.
        selects (bool): Whether a block processes some tokens rather than clusters (SViT): 0 is what
            it leaves as it is, every other label one token. Default: False.
    """

    image: np.ndarray
    stages: tuple[np.ndarray, ...]
    blocks: tuple[int, ...]
    patch_size: int = 16
    selects: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the padded patch grid."""
        height, width = self.stages[0].shape
        return height, width

    @property
    def titles(self) -> list[str]:
        """Paper's number of each block, and how many clusters or selected tokens it has."""
        counts = [
            f'{np.count_nonzero(labels)} tokens'
            if self.selects
            else f'{len(np.unique(labels))} clusters'
            for labels in self.stages
        ]
        return [f'block {i + 1}: {count}' for i, count in zip(self.blocks, counts, strict=True)]


def image_pipeline(cfg: Config) -> Compose:
    """The test pipeline of a config for images without annotations.

    Args:
        cfg (Config): Config of a detector.

    Returns:
        Compose: Takes the path of an image or a BGR array ``(H, W, 3)`` uint8.
    """
    loader, *steps = [
        step for step in get_test_pipeline_cfg(cfg) if step['type'] != 'LoadAnnotations'
    ]
    return Compose([{**loader, 'type': InferencerLoader}, *steps])


def load_batch(pipeline: Compose, images: Sequence[str | Path | np.ndarray]) -> dict[str, Any]:
    """Images as a data loader would hand them to the detector.

    Args:
        pipeline (Compose): What :func:`image_pipeline` returned.
        images (Sequence): Files, or BGR arrays ``(H, W, 3)`` uint8.

    Returns:
        dict: ``inputs``, a list of ``(3, h, w)`` uint8 tensors, and ``data_samples``.

    Raises:
        ValueError: If a file cannot be read as an image.
    """
    samples = []
    for image in images:
        try:
            samples.append(pipeline(image if isinstance(image, np.ndarray) else str(image)))
        except (AssertionError, OSError, cv2.error) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f'{image} cannot be read as an image: {reason}') from error
    return {key: [sample[key] for sample in samples] for key in ('inputs', 'data_samples')}


@torch.no_grad()
def predict_clusters(
    model: BaseDetector, batch: dict[str, Any], merging: dict | None = None
) -> list[ImageClusters]:
    """Run a batch through a detector's backbone.

    Images of different sizes are padded to a common one, as in evaluation.

    Args:
        model (BaseDetector): A detector with an ``ATCViTAdapter`` or an ``SViTAdapter``, in eval
            mode; it is left as it was.
        batch (dict): From :func:`load_batch` or a data loader.
        merging (dict, optional): Merge by another method, on the same weights: the backbone's
            argument of this name; without a keep rate as many clusters as the model's own. None
            is the model's own. Default: None.

    Returns:
        list[ImageClusters]: One for each image.

    Raises:
        ValueError: If the backbone merges no tokens, or ``merging`` is no merger's config.
    """
    backbone = model.backbone
    selects = isinstance(backbone, SViTAdapter) and merging is None
    merges = isinstance(backbone, ATCViTAdapter) and (merging is not None or backbone.merger)
    if not selects and not merges:
        raise ValueError(
            f'the backbone {type(backbone).__name__} merges no tokens: '
            'choose an atc_* or tome_* config'
        )
    with nullcontext() if merging is None else merging_by(backbone, merging):
        maps = label_maps(model, batch)
        depth = len(backbone.blocks)
        blocks = tuple(range(depth - len(maps), depth)) if selects else backbone.merge_blocks
    # From BGR, (3, h, w).
    images = [
        image.flip(0).permute(1, 2, 0).contiguous().cpu().numpy() for image in batch['inputs']
    ]
    return [
        ImageClusters(image, tuple(stages), blocks, backbone.patch_size, selects)
        for image, *stages in zip(images, *maps, strict=True)
    ]


def compare_clusters(
    model: BaseDetector, batch: dict[str, Any], mergings: Mapping[str, dict | None]
) -> list[dict[str, ImageClusters]]:
    """:func:`predict_clusters` by several methods: of each image, by the names of ``mergings``."""
    columns = [predict_clusters(model, batch, merging) for merging in mergings.values()]
    return [dict(zip(mergings, images, strict=True)) for images in zip(*columns, strict=True)]


@torch.no_grad()
def label_maps(model: BaseDetector, batch: dict[str, Any]) -> list[np.ndarray]:
    """Clusters of the padded patch grid after each merge, or what each block selects.

    Args:
        model (BaseDetector): A detector with an ``ATCViTAdapter`` that merges, or with an
            ``SViTAdapter``, in eval mode.
        batch (dict): ``inputs`` and ``data_samples`` as a data loader hands them over.

    Returns:
        list[ndarray]: For each merge block ``(B, h, w)`` int64, values ``0 .. K - 1``; for each
        selective block 0 where a token is not selected and its position from 1 on where it is.
    """
    data = model.data_preprocessor(batch, False)
    inputs, sizes = data['inputs'], valid_sizes(data.get('data_samples'))
    height, width = (side // model.backbone.patch_size for side in inputs.shape[-2:])
    if isinstance(model.backbone, SViTAdapter):
        positions = torch.arange(1, height * width + 1, device=inputs.device)
        _, chosen = model.backbone.forward_with_selection(inputs)
        labels = [selected * positions for selected in chosen]
    else:
        _, stages = model.backbone.forward_with_clusters(inputs, sizes)
        labels = [stage.labels for stage in stages]
    return [each.reshape(-1, height, width).cpu().numpy() for each in labels]


@contextmanager
def merging_by(backbone: ATCViTAdapter, merging: dict) -> Iterator[None]:
    """The backbone's own merger is back afterwards, also after an error."""
    own = backbone.merger, backbone.plan, backbone.padding_aware
    try:
        backbone.set_merging(merging, None if 'keep_rate' in merging else backbone.plan)
        yield
    finally:
        backbone.merger, backbone.plan, backbone.padding_aware = own
