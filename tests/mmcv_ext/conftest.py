"""mmcv's Python functions on the supplied operators, whether or not it is compiled."""

from __future__ import annotations

import contextlib
import importlib.util
import sys

import pytest
import torch
from mmcv.ops import multi_scale_deform_attn

from mmdet_atc import mmcv_ext

from .references import COMPILED

collect_ignore = [] if COMPILED else ['test_compiled.py']


@pytest.fixture(scope='session')
def supplied_module():
    """The module that stands in for ``mmcv._ext`` where that is missing."""
    spec = mmcv_ext._Finder().find_spec('mmcv._ext', None)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def supplied_operators(supplied_module):
    """A context in which all of ``mmcv.ops`` calls the supplied operators."""

    @contextlib.contextmanager
    def operators():
        with pytest.MonkeyPatch.context() as patch:
            for name, module in list(sys.modules.items()):
                if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
                    patch.setattr(module, 'ext_module', supplied_module)
            yield

    return operators


@pytest.fixture
def supplied(supplied_operators):
    """The test is in that context."""
    with supplied_operators():
        yield


@pytest.fixture
def as_if_on_gpu():
    """A context in which the Python code of mmcv and mmdet takes tensors for a GPU's."""

    @contextlib.contextmanager
    def pretended():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, 'is_cuda', True)
            patch.setattr(torch.cuda, 'is_available', lambda: True)
            patch.setattr(multi_scale_deform_attn, 'IS_CUDA_AVAILABLE', True)
            yield

    return pretended
