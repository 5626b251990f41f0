"""The integrations work where nothing of OpenMMLab is installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

WITHOUT = """
import importlib.util, sys
find_spec = importlib.util.find_spec
hidden = ('mmengine', 'mmcv', 'mmdet')
importlib.util.find_spec = lambda name, *args: None if name in hidden else find_spec(name, *args)
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in hidden:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""
TIMM = """
import timm, torch
from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import keep_rate_plan
model = timm.create_model('vit_tiny_patch16_224', img_size=64, depth=3)
plan = keep_rate_plan(0.5, blocks=(0,))
for type_ in ('AgglomerativeMerging', 'BipartiteMerging', 'TopKMerging'):
    apply_merging(model, dict(type=type_), plan)(torch.rand(1, 3, 64, 64))
    assert model.token_clusters[0].num_clusters == 8
try:
    apply_merging(model, dict(type='Nothing'), plan)
except ValueError as error:
    assert 'Nothing is not in the token merger registry' in str(error)
else:
    raise AssertionError
"""


@pytest.mark.parametrize('code', [TIMM], ids=['timm'])
def test_works_without_openmmlab(code):
    end = "assert not [name for name in sys.modules if name.split('.')[0] in hidden]"
    subprocess.run(
        [sys.executable, '-c', WITHOUT + code + end],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        check=True,
    )
