"""From image files and a detector to the label maps that are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.models.detectors import BaseDetector

from mmdet_atc.backbones import ATCViTAdapter


@dataclass(frozen=True)
class ImageClusters:
    """Clusters of one image.

    Args:
        image (ndarray): What the model saw, without padding: RGB, ``(H, W, 3)`` uint8.
        stages (tuple[ndarray, ...]): A label map of the padded patch grid, ``(h, w)`` int64, for
            each merge block.
        blocks (tuple[int, ...]): 0-based merge blocks.
    """

    image: np.ndarray
    stages: tuple[np.ndarray, ...]
    blocks: tuple[int, ...]

    @property
    def titles(self) -> list[str]:
        """Paper's number of each merge block, and clusters of all tokens."""
        return [
            f'block {block + 1}: {len(np.unique(labels))} clusters of {labels.size} patches'
            for block, labels in zip(self.blocks, self.stages, strict=True)
        ]


@torch.no_grad()
def predict_clusters(model: BaseDetector, pipeline: Compose, path: str) -> ImageClusters:
    """Run an image file through a detector's backbone.

    Args:
        model (BaseDetector): A detector with an ``ATCViTAdapter`` that merges, in eval mode.
        pipeline (Compose): The test pipeline without annotations.
        path (str): Image file.

    Returns:
        ImageClusters: The image as the model saw it and its clusters.

    Raises:
        ValueError: If the backbone merges no tokens.
    """
    backbone = model.backbone
    if not isinstance(backbone, ATCViTAdapter) or backbone.merger is None:
        raise ValueError(
            f'the backbone {type(backbone).__name__} merges no tokens: '
            'choose an atc_* or tome_* config'
        )
    data = pipeline(dict(img_path=path, img_id=0))
    image = data['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    batch = model.data_preprocessor(
        dict(inputs=[data['inputs']], data_samples=[data['data_samples']]), False
    )
    inputs = batch['inputs']
    grid = tuple(side // backbone.patch_size for side in inputs.shape[-2:])
    _, stages = backbone.forward_with_clusters(inputs)
    maps = tuple(stage.labels[0].reshape(grid).cpu().numpy() for stage in stages)
    return ImageClusters(np.ascontiguousarray(image), maps, backbone.merge_blocks)
