"""The stages of a forward pass add up to it."""

from __future__ import annotations

import time

import pytest
import torch

from mmdet_atc.backbones import SViTAdapter
from mmdet_atc.engine import Variant, load_config
from mmdet_atc.studies.speed.inputs import noise_batch
from mmdet_atc.studies.speed.measure import Row
from mmdet_atc.studies.speed.report import stage_table
from mmdet_atc.studies.speed.stages import OTHER, STAGES, StageTimes

from ...conftest import ROOT

CPU = torch.device('cpu')
EVERY_MODEL = {
    *('spatial prior', 'patch embedding', 'Injector', 'attention', 'MLP', 'Extractor'),
    *('output maps', OTHER),
}
MERGING = EVERY_MODEL | {'clustering', 'merge and back-project'}


def build(merging: dict | None):
    path = str(ROOT / 'configs/atc_vit_adapter_micro_shapes.py')
    merging = None if merging is None else dict(merging, keep_rate=0.5, _delete_=True)
    return Variant('micro', load_config(path, {'model.backbone.merging': merging})).build(CPU)


@pytest.mark.parametrize(
    ('merging', 'stages'),
    [
        (None, EVERY_MODEL),
        (dict(type='AgglomerativeMerging'), MERGING),
        (dict(type='TopKMerging'), MERGING | {'received attention'}),
    ],
    ids=['dense', 'average', 'top-k'],
)
def test_stages_of_a_backbone(merging, stages):
    model = build(merging)
    with torch.inference_mode(), StageTimes(model, CPU) as times:
        model.backbone(torch.rand(1, 3, 64, 96))
    assert set(times.seconds) == stages <= set(STAGES)
    assert min(times.seconds.values()) > 0


def test_stages_of_svit():
    model = build(None)
    model.backbone = SViTAdapter(embed_dim=96, num_heads=3).eval()
    with torch.inference_mode(), StageTimes(model, CPU) as times:
        model.backbone(torch.rand(1, 3, 64, 96))
    expected = EVERY_MODEL - {'attention', 'MLP'} | {'token selection', 'selective blocks'}
    assert set(times.seconds) == expected <= set(STAGES)
    assert min(times.seconds.values()) > 0


def test_stages_add_up_to_the_detector(monkeypatch):
    model = build(None)
    inputs = model.data_preprocessor(noise_batch(64, 96), training=False)

    def slower(owner, name: str, seconds: float) -> None:
        function = getattr(owner, name)

        def run(*args, **kwargs):
            time.sleep(seconds)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, run)

    slower(model.backbone, '_padding', 0.2)  # part of no stage
    slower(model.backbone, '_finest_output', 0.3)
    slower(model.backbone, '_patch_tokens', 0.4)
    with torch.inference_mode():
        start = time.perf_counter()
        with StageTimes(model, CPU) as times:
            model(**inputs, mode='tensor')
        whole = time.perf_counter() - start
    assert set(times.seconds) == EVERY_MODEL | {'neck', 'RPN', 'RoI heads'}
    assert sum(times.seconds.values()) == pytest.approx(whole, abs=0.05)
    assert times.seconds[OTHER] >= 0.2
    assert times.seconds['output maps'] >= 0.3
    assert times.seconds['patch embedding'] >= 0.4
    assert '_coarser_outputs' not in vars(model.backbone)


def test_the_table_has_the_whole_last():
    rows = [
        Row('dense', 1, [1], stages={'attention': 0.5, OTHER: 0.125}),
        Row('compiled', 1, [1]),
        Row('merging', 1, [1], stages={'attention': 0.25, 'clustering': 0.125, OTHER: 0.0625}),
    ]
    assert stage_table(rows).splitlines() == [
        '| model | batch | attention, ms | clustering, ms | other, ms | whole, ms |',
        '| --- | --- | --- | --- | --- | --- |',
        '| dense | 1 | 500 | 0 | 125 | 625 |',
        '| merging | 1 | 250 | 125 | 62 | 438 |',
    ]
