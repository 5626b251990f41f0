"""When mmcv's extension module is supplied, and what it says of operators that it has not."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import mmcv
import mmdet
import pytest
from mmcv.utils.ext_loader import check_ops_exist

from mmdet_atc import mmcv_ext

from ..conftest import ROOT


@pytest.fixture
def mmcv_folder(tmp_path, monkeypatch):
    """An mmcv whose files are those of the folder alone, with nothing of it imported."""
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path)])
    monkeypatch.setattr(mmcv, '_ext', None, raising=False)
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    yield tmp_path
    # What the test imported goes before monkeypatch brings back what was there.
    sys.modules.pop('mmcv._ext', None)


def test_a_missing_module_is_supplied(mmcv_folder):
    assert check_ops_exist()
    assert mmcv_ext.is_supplied()
    assert importlib.import_module('mmcv._ext').nms is mmcv_ext.nms
    assert not list(mmcv_folder.iterdir())


def test_a_compiled_module_is_left_alone(mmcv_folder):
    (mmcv_folder / '_ext.py').write_text('nms = "compiled"\n')
    assert not mmcv_ext.is_supplied()
    assert importlib.import_module('mmcv._ext').nms == 'compiled'


def test_a_module_that_does_not_load_gives_its_reason(mmcv_folder):
    (mmcv_folder / '_ext.py').write_text('raise ImportError("undefined symbol: one")\n')
    with pytest.raises(ImportError, match='undefined symbol: one'):
        importlib.import_module('mmcv._ext')


def test_other_operators_say_that_they_are_not_compiled(mmcv_folder):
    ext = importlib.import_module('mmcv._ext')
    with pytest.raises(NotImplementedError, match=r"'carafe_forward'.*make env MMCV=full"):
        ext.carafe_forward(1, scale=2)
    with pytest.raises(AttributeError):
        ext.__wrapped__  # noqa: B018  inspection finds no operators


@pytest.mark.parametrize(
    ('installed', 'line'),
    [
        ({'mmcv-lite'}, None),
        ({'onedl-mmcv'}, None),
        ({'mmcv', 'mmcv-lite'}, 'mmcv and mmcv-lite are installed over one another'),
    ],
)
def test_two_owners_of_the_folder_are_noticed(monkeypatch, recwarn, installed, line):
    def distribution(name):
        if name not in installed:
            raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'distribution', distribution)
    monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
    mmcv_ext.install()
    said = [str(warning.message) for warning in recwarn]
    assert [line in text and '\n' not in text for text in said] == ([True] if line else [])


#: MMDetection's own tools, as pip installs them.
THEIRS = f'{mmdet.__path__[0]}/.mim/tools'


@pytest.mark.parametrize(
    'command',
    [
        # It imports no head before the config's custom_imports.
        [f'{THEIRS}/train.py', 'config.py'],
        # It imports them first.
        ['-m', 'mmdet_atc.mmcv_ext', f'{THEIRS}/test.py', 'config.py', 'none.pth'],
    ],
    ids=['train', 'test'],
)
def test_others_find_the_operators(tmp_path, command):
    (tmp_path / 'config.py').write_text(
        "custom_imports = dict(imports=['mmdet_atc'], allow_failed_imports=False)\n"
        "default_scope = 'mmdet'\n"
        "model = dict(type='RetinaNet')\n"
        "work_dir = '.'\n"
    )
    run = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Heads and operators were imported, or it would not be known.
    assert "RetinaNet.__init__() missing 3 required positional arguments: 'backbone'" in run.stderr
