"""A comparison tells of every call and leaves detectors as they were."""

from __future__ import annotations

import pytest
import torch

from mmdet_atc.backbones import SViTAdapter
from mmdet_atc.datasets import generate_shapes_dataset
from mmdet_atc.engine import Variant, load_config
from mmdet_atc.studies.speed.inputs import annotated_batch
from mmdet_atc.studies.speed.measure import KINDS, compare, tokens_per_block

from ...conftest import ROOT

CPU = torch.device('cpu')


@pytest.fixture
def variant(tmp_path) -> Variant:
    data = generate_shapes_dataset(tmp_path / 'shapes', 2, 4)
    path = ROOT / 'configs/atc_vit_adapter_micro_shapes.py'
    return Variant('micro', load_config(str(path), dict(data_root=str(data))))


def test_every_call_is_counted_and_the_detector_is_as_before(variant, capsys):
    model = variant.build(CPU)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [annotated_batch(variant.cfg, size, 64, 96) for size in (1, 2)]
    optimizer = variant.cfg.optim_wrapper
    rows = compare(dict(micro=model), batches, KINDS, 1, CPU, optim_wrappers=dict(micro=optimizer))

    # Of each batch and kind a warm-up, a repeat and one for memory; then three for stages.
    assert capsys.readouterr().err.rpartition('] ')[2].startswith(f'{2 * (3 * 3 + 3)}/24, ')
    assert [row.batch for row in rows] == [1, 2]
    for row in rows:
        assert row.seconds.keys() == row.peak_mib.keys() == set(KINDS)
        assert sum(row.stages.values()) > 0
    assert not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_tokens_of_svit_are_those_that_its_blocks_select():
    torch.manual_seed(0)
    backbone, images = SViTAdapter(embed_dim=96, num_heads=3).eval(), torch.randn(2, 3, 64, 96)
    counts = tokens_per_block(backbone, images)
    with torch.no_grad():
        _, selected = backbone.forward_with_selection(images)
    assert counts == [24] * 3 + [round(s.sum().item() / 2) for s in selected]
    assert 0 < min(counts) < 24


def test_training_without_an_optimizer_is_refused(variant):
    with pytest.raises(ValueError, match=r"training needs optim_wrappers .* none for \{'micro'\}"):
        compare(dict(micro=variant.build(CPU)), [], ['training'], 1, CPU)
