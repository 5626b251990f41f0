"""Which torch the plugin runs with."""

from __future__ import annotations

import re

import pytest
import torch
from torch.torch_version import TorchVersion

from mmdet_atc.torch_version import require_torch


@pytest.mark.parametrize('version', ['1.13.1', '2.5.1+cu124'])
def test_versions_of_torch_that_would_run_code_are_refused(monkeypatch, version):
    monkeypatch.setattr(torch, '__version__', TorchVersion(version))
    with pytest.raises(
        ImportError, match=re.escape(f'needs torch 2.6 or newer, this is {version}')
    ):
        require_torch()


@pytest.mark.parametrize('version', ['2.6.0', '2.11.0+cu130'])
def test_versions_of_torch_that_refuse_code_are_taken(monkeypatch, version):
    monkeypatch.setattr(torch, '__version__', TorchVersion(version))
    require_torch()
