"""What an installed package must hold besides modules, and that it works without a clone."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys

import pytest

from .conftest import ROOT


def test_every_data_file_of_the_package_is_installed_with_it():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    installed = {
        path
        for package, patterns in setup['options.package_data'].items()
        for pattern in patterns.split()
        for path in ROOT.joinpath(*package.split('.')).glob(pattern)
    }
    files = {path for path in (ROOT / 'mmdet_atc').rglob('*.*') if path.is_file()}
    assert {path for path in files if path.suffix not in ('.py', '.pyc')} == installed


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A folder with what a wheel of this tree installs."""
    folder = tmp_path_factory.mktemp('wheel')
    # setuptools writes beside its sources.
    ignored = shutil.ignore_patterns('.*', 'work_dirs', 'data', 'build', 'tests', '*.egg-info')
    shutil.copytree(ROOT, folder / 'sources', ignore=ignored)
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation']
    subprocess.run([*command, '--target', folder / 'site', folder / 'sources'], check=True)
    return folder / 'site'


def call(installed, *arguments):
    """``python -m mmdet_atc ARGUMENTS`` in a folder without a clone."""
    return subprocess.run(
        [sys.executable, '-m', 'mmdet_atc', *arguments],
        cwd=installed.parent,
        env={**os.environ, 'PYTHONPATH': str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_extra_names_mmcv_lite_and_the_package_itself_no_mmcv(installed):
    (metadata,) = installed.glob('mmdet_atc-*.dist-info/METADATA')
    needs = [line for line in metadata.read_text().splitlines() if line.startswith('Requires-Dist')]
    assert [line for line in needs if 'mmcv' in line] == [
        'Requires-Dist: mmcv-lite==2.1.0; extra == "lite"'
    ]


def test_tools_take_configs_by_name_without_a_clone(installed):
    found = call(installed, 'test', 'atc_vit_adapter_t_average_r50', 'none.pth')
    assert "no checkpoint at 'none.pth'" in found.stderr
    missing = call(installed, 'train', 'atc_vit_adapter_t_averge_r50')
    assert "no config at 'atc_vit_adapter_t_averge_r50'" in missing.stderr


def test_the_demo_knows_the_models_without_a_clone(installed):
    image = str(ROOT / 'docs' / 'images' / 'clusters.png')
    demo = call(installed, 'demo', image, '--config', 'atc_vit_adapter_t_averge', '--device', 'cpu')
    assert "a model 'atc_vit_adapter_t_averge': did you mean" in demo.stderr


def test_other_commands_are_refused_in_one_line(installed):
    (refused,) = call(installed, 'publish').stderr.splitlines()
    assert refused.startswith('usage: python -m mmdet_atc {train,test,demo} ARGUMENTS')
