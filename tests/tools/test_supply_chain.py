"""What is installed is pinned, consistent and free to use."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from mmdet_atc.mmcv_ext import is_supplied

from ..conftest import ROOT

FOLDER = ROOT / 'requirements'
MMCV = 'lite' if is_supplied() else 'full'
FILES = ['build.txt', 'torch.txt', f'mmcv-{MMCV}.txt', 'runtime.txt', 'tests.txt', 'docs.txt']


def requirements(file: str) -> list[Requirement]:
    text = re.sub(r'\\\n\s*', ' ', (FOLDER / file).read_text())
    lines = [line.strip() for line in text.splitlines()]
    return [Requirement(line.split('--hash')[0]) for line in lines if line and line[0] not in '#-']


def canonical(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12'])
def test_every_requirement_is_locked_at_a_version_that_it_admits(python):
    where = dict(
        python_version=python, python_full_version=f'{python}.5', sys_platform='linux',
        platform_machine='x86_64', extra='',
    )  # fmt: skip
    locked = {}
    for entry in [*requirements('lock.txt'), *requirements(f'lock-mmcv-{MMCV}.txt')]:
        if entry.marker is None or entry.marker.evaluate(where):
            assert entry.name not in locked
            (pin,) = entry.specifier
            assert pin.operator == '=='
            locked[canonical(entry.name)] = pin.version
    for file in FILES:
        for requirement in requirements(file):
            version = locked[canonical(requirement.name)]
            assert requirement.specifier.contains(version), f'{requirement} of {file}: {version}'


@pytest.mark.parametrize('file', ['lock.txt', 'lock-mmcv-lite.txt', 'lock-mmcv-full.txt'])
def test_every_locked_file_has_its_digest(file):
    text = re.sub(r'\\\n\s*', ' ', (FOLDER / file).read_text())
    entries = [line for line in text.splitlines() if line and line[0] != '#']
    assert entries
    for entry in entries:
        assert re.search(r'--hash=sha256:[0-9a-f]{64}', entry), entry


def test_what_is_installed_fits_together():
    result = subprocess.run(
        [sys.executable, '-m', 'pip', 'check'], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout


def licences(*files, **env) -> subprocess.CompletedProcess:
    command = [sys.executable, 'tools/misc/check_licences.py', *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **env)


def test_all_licences_are_allowed():
    result = licences(*(FOLDER / file for file in FILES))
    assert result.returncode == 0, result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert {'torch', 'timm', 'mmdet', 'pillow', 'pytest', 'sympy'} <= set(names)


@pytest.mark.parametrize(
    ('fields', 'fine'),
    [
        ('License-Expression: MIT', True),
        ('License-Expression: MIT AND GPL-3.0-only', False),
        ('License: BSD-2-clause OR GPL-2.0-or-later', True),
        ('Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)', False),
        ('License: CC-BY-NC-4.0', False),
        ('Summary: says nothing', False),
    ],
)
def test_a_package_with_another_licence_is_named(tmp_path, fields, fine):
    folder = tmp_path / 'needed-1.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(
        f'Metadata-Version: 2.4\nName: needed\nVersion: 1.0\n{fields}\n'
    )
    top = tmp_path / 'top-1.0.dist-info'
    top.mkdir()
    (top / 'METADATA').write_text(
        'Metadata-Version: 2.4\nName: top\nVersion: 1.0\nLicense: MIT\nRequires-Dist: needed\n'
    )
    (tmp_path / 'requirements.txt').write_text('# ours\ntop>=1\n')
    result = licences(tmp_path / 'requirements.txt', env=dict(PYTHONPATH=str(tmp_path)))
    assert 'needed' in result.stdout
    assert (result.returncode == 0) == fine
    if not fine:
        assert result.stderr.startswith('error: licences to look at: needed (')
