"""Segmentation with MMSegmentation: configs, its own tools, sliding windows, released files."""

from __future__ import annotations

import pytest

from ..conftest import ROOT

mmseg = pytest.importorskip('mmseg', reason='MMSegmentation is not installed')

CONFIGS = ROOT / 'configs' / 'segmentation'
SIZES = dict(t=192, s=384, b=768, l=1024)
DENSE = [f'upernet_vit_adapter_{size}_ade20k' for size in SIZES]
DENSE += ['upernet_vit_adapter_s_cityscapes']
DENSE += [f'mask2former_vit_adapter_s_{data}' for data in ('ade20k', 'cityscapes')]
ATC = [
    f'{head}_atc_vit_adapter_s_average_r50_{data}'
    for head in ('upernet', 'mask2former')
    for data in ('ade20k', 'cityscapes')
]
MICRO = [f'upernet_{kind}_micro_shapes' for kind in ('vit_adapter', 'atc_vit_adapter')]
#: ViT-Adapter's README, UPerNet on ADE20K, in millions.
PARAMETERS = dict(t=36.1, s=57.6, b=133.9, l=363.8)
