"""Batches whose images all have one size: real annotated ones, or noise."""

from __future__ import annotations

import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope


def annotated_batch(cfg: Config, batch_size: int, height: int, width: int) -> dict:
    """The first landscape images of a config's validation set that have instances.

    Args:
        cfg (Config): Config with a ``val_dataloader``.
        batch_size (int): Number of images.
        height (int): Height that images are resized to, whatever their shape.
        width (int): Width likewise.

    Returns:
        dict: What a detector's data preprocessor takes.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If it has too few such images.
    """
    init_default_scope('mmdet')
    dataset_cfg = cfg.val_dataloader.dataset.copy()
    dataset_cfg.test_mode = False  # filters images without instances
    dataset_cfg.filter_cfg = dict(filter_empty_gt=True, min_size=32)
    dataset_cfg.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=(width, height), keep_ratio=False),
        dict(type='PackDetInputs'),
    ]
    dataset = DATASETS.build(dataset_cfg)
    samples = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if info['width'] > info['height']:
            samples.append(dataset[index])
        if len(samples) == batch_size:
            return pseudo_collate(samples)
    raise ValueError(f'{dataset_cfg.data_root}: {len(samples)} landscape images for {batch_size}')


def default_batch_sizes(device: torch.device) -> list[int]:
    """One image, and on an accelerator, which one does not fill, also eight."""
    return [1] if device.type == 'cpu' else [1, 8]


def noise_batch(height: int, width: int) -> dict:
    """One image of seeded noise as a detector's data preprocessor takes it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    shape = (height, width)
    sample = DetDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), img_id=0)
    )
    return dict(inputs=[image], data_samples=[sample])
