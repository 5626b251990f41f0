"""What an installed package must hold besides modules."""

from __future__ import annotations

import configparser

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
