"""Thousands of passes of ever other sizes hold on to nothing."""

from __future__ import annotations

import contextlib

import pytest
import torch

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.backbones.geometry import _kept_geometry
from mmdet_atc.studies.speed.endurance import run_and_look

CPU = torch.device('cpu')
SIDES = range(32, 289, 32)  # 81 sizes, more than any cache holds


@pytest.fixture
def backbone():
    return ATCViTAdapter(
        depth=1, embed_dim=12, num_heads=1, deform_num_heads=1, n_points=1, conv_inplane=2,
        interaction_indexes=[[0, 0]], merge_blocks=[0], use_extra_extractor=False,
        merging=dict(keep_rate=0.5), padding_aware=True,
    ).eval()  # fmt: skip


@pytest.mark.slow
def test_2000_passes_hold_on_to_nothing(backbone):
    with torch.no_grad():
        seen = list(
            run_and_look(
                lambda h, w: backbone(torch.rand(1, 3, h, w), [(h - 16, w)]), 2000, 4, SIDES, CPU
            )
        )
    first, *_, last = seen
    assert [held.passes for held in seen] == [500, 1000, 1500, 2000]
    # Geometries come and go: the last 64 sizes are kept.
    assert _kept_geometry.cache_info().currsize <= 64
    assert last.tensors - first.tensors < 100
    assert (last.files, last.threads) == (first.files, first.threads)
    if first.mebibytes is not None:
        assert last.mebibytes - first.mebibytes < 16


def test_what_is_held_is_seen():
    kept = []
    first, last = run_and_look(lambda h, w: kept.append(torch.ones(h, w)), 400, 2, SIDES, CPU)
    assert last.tensors - first.tensors == 200
    if first.mebibytes is not None:
        assert last.mebibytes - first.mebibytes > 12


def test_files_are_counted(tmp_path):
    with contextlib.ExitStack() as kept:
        file = tmp_path / 'a'
        first, last = run_and_look(lambda *_: kept.enter_context(file.open('w')), 2, 2, SIDES, CPU)
    assert last.files - first.files in (0, 1)  # 0 where the system does not tell


@pytest.mark.parametrize(('passes', 'looks'), [(0, 1), (5, 2), (4, 0)])
def test_bad_arguments_are_refused(passes, looks):
    with pytest.raises(ValueError, match='passes must be a positive multiple'):
        next(run_and_look(print, passes, looks, SIDES, CPU))
