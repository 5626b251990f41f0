"""The code blocks of docs/extending.md, run as they stand."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from mmengine.config import Config

from mmdet_atc.backbones import ATCViTAdapter
from mmdet_atc.merging import TOKEN_MERGERS

from ..backbones.micro import MICRO
from ..conftest import ROOT


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """The page's blocks; the first one is saved as the page says."""
    found = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/extending.md').read_text(), re.DOTALL)
    (tmp_path / 'my_mergers.py').write_text(found[0])
    monkeypatch.syspath_prepend(tmp_path)
    yield found
    sys.modules.pop('my_mergers', None)
    TOKEN_MERGERS.module_dict.pop('PrincipalMerging', None)


def test_a_merger_takes_20_lines_and_a_config(blocks, tmp_path):
    _, config, check, _ = blocks
    (tmp_path / 'config.py').write_text(config.replace('./configs/', f'{ROOT}/configs/'))
    cfg = Config.fromfile(tmp_path / 'config.py')
    model = ATCViTAdapter(merging=cfg.model.backbone.merging, **MICRO).eval()
    with torch.no_grad():
        _, stages = model.forward_with_clusters(torch.randn(2, 3, 64, 96))
    assert [stage.num_clusters for stage in stages] == [12, 6, 3]
    exec(compile(check, 'docs/extending.md', 'exec'), {})


def test_tokens_run_along_the_first_principal_direction(blocks):
    space: dict = {}
    exec(compile(blocks[0], 'docs/extending.md', 'exec'), space)
    along = torch.tensor([3.0, 9, 1, 7, 5, 8])
    keys = along[None, :, None] * torch.tensor([1.0, 2, 0]) + 0.01 * torch.randn(1, 6, 3)
    labels = space['PrincipalMerging'](keep_rate=0.5).assign(keys, 3)[0].tolist()
    # Of a direction either end may be first.
    assert labels in ([0, 2, 0, 1, 1, 2], [2, 0, 2, 1, 1, 0])


def test_merging_in_another_model(blocks):
    exec(compile(blocks[3], 'docs/extending.md', 'exec'), {})
