"""The micro backbone of the golden checkpoint, and helpers around it."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdet_atc.backbones import ATCViTAdapter, ViTAdapter

MICRO = dict(
    embed_dim=48,
    num_heads=3,
    depth=12,
    conv_inplane=16,
    deform_num_heads=3,
    n_points=4,
    cffn_ratio=0.25,
    interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
)


def micro(merging: dict | None = None, **kwargs) -> ViTAdapter:
    """A micro backbone in which every part matters: no gate or offset is zero."""
    torch.manual_seed(0)
    if merging is None and 'merge_blocks' not in kwargs:
        model = ViTAdapter(**{**MICRO, **kwargs})
    else:
        model = ATCViTAdapter(merging=merging, **{**MICRO, **kwargs})
    for name, parameter in model.named_parameters():
        if 'gamma' in name or 'attention_weights' in name or 'sampling_offsets.weight' in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def canonical(labels: Tensor) -> Tensor:
    """Labels ``(B, N)`` renumbered by first occurrence, so that equal partitions are equal."""
    rows = []
    for row in labels.tolist():
        names: dict[int, int] = {}
        rows.append([names.setdefault(label, len(names)) for label in row])
    return torch.tensor(rows)
