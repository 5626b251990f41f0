"""The environment's script: what it refuses, whose mmcv it leaves alone, and how it builds one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..conftest import ROOT


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        (dict(MMDET_ATC_TORCH='nowhere.txt'), "there is no file 'nowhere.txt'"),
        (
            dict(MMDET_ATC_TORCH='requirements/torch-newest.txt', MMDET_ATC_LOCKED='1'),
            'exclude each other',
        ),
        (dict(PYTHON='python0'), "no 'python0' on PATH"),
        (dict(MMCV='light'), "MMCV is lite, full or onedl, not 'light'"),
        (dict(MMCV='onedl', MMDET_ATC_LOCKED='1'), 'MMCV=onedl has no lock file'),
    ],
)
def test_what_cannot_be_set_up_is_refused_in_one_line(tmp_path, environment, message):
    run = _set_up(tmp_path, **environment)
    assert run.returncode == 1
    assert run.stderr.startswith('[setup] error: ')
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_python_that_does_not_run_is_not_called_too_old(tmp_path):
    shim = tmp_path / 'python3'
    shim.write_text("#!/bin/sh\necho 'pyenv: python3: command not found' >&2\necho >&2\nexit 127\n")
    shim.chmod(0o755)
    run = _set_up(tmp_path, PYTHON=str(shim))
    assert run.stderr == (
        f"[setup] error: '{shim}' does not run: pyenv: python3: command not found; "
        'install Python >= 3.10 or set PYTHON\n'
    )


def test_mmcv_is_built_anew_for_each_torch(tmp_path):
    """pip's cache of wheels knows no torch, and once gave one that was built for another."""
    python = _stub_python(tmp_path, abi='an-abi')
    run = _set_up(tmp_path)
    assert run.returncode == 1
    assert 'mmcv==2.1.0 failed; the log is' in run.stderr
    assert 'cache/wheels/an-abi/build.log: no wheel' in run.stderr
    arguments, path, _ = python.with_name('python.wheel').read_text().splitlines()
    assert '--no-cache-dir' in arguments.split()
    # Without ninja on PATH the build takes one core.
    assert path.startswith(f'{python.parent}:')


def test_help_and_unknown_options_set_up_nothing(tmp_path):
    help_, unknown = (_set_up(tmp_path, option) for option in ('--help', '--locked'))
    assert help_.returncode == 0
    assert 'tools/setup_env.sh [VENV_DIR]' in help_.stdout
    assert 'set -euo' not in help_.stdout
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("[setup] error: unknown option '--locked'")


def test_ops_for_gpus_need_their_compiler(tmp_path):
    """Without it mmcv's build fails after minutes, with a message of setuptools."""
    python = _stub_python(tmp_path, abi='cp312-torch2.11.0-cu13.0-linux')
    run = _set_up(tmp_path)
    assert run.returncode == 1
    assert 'need the toolkit of CUDA 13.0 with bin/nvcc and include/crt' in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not python.with_name('python.wheel').exists()


@pytest.mark.parametrize('has_headers', [True, False])
def test_a_wrapper_of_nvcc_is_asked_for_its_toolkit(tmp_path, has_headers):
    """torch takes the folder above it for CUDA's, and headers are missing after most of an hour."""
    guess, toolkit = tmp_path / 'local', tmp_path / 'cuda'
    for folder in (guess, toolkit):
        (folder / 'bin').mkdir(parents=True)
        (folder / 'bin' / 'nvcc').touch(mode=0o755)
    if has_headers:
        (toolkit / 'include' / 'crt').mkdir(parents=True)
        (toolkit / 'include' / 'crt' / 'host_defines.h').touch()
    python = _stub_python(tmp_path, abi='cp312-torch2.11.0-cu13.0-linux', cuda_home=guess)
    (tmp_path / 'bin' / 'nvcc').write_text(f"#!/bin/sh\necho '#$ TOP={toolkit}/bin/..' >&2\n")
    run = _set_up(tmp_path)
    assert run.returncode == 1
    if has_headers:
        assert python.with_name('python.wheel').read_text().splitlines()[2] == str(toolkit)
    else:
        assert 'need the toolkit' in run.stderr
        assert not python.with_name('python.wheel').exists()


@pytest.mark.parametrize(
    ('kind', 'owner', 'says', 'calls'),
    [
        ('lite', 'mmcv', 'mmcv is in {venv} already, compiled: it stays', ''),
        ('lite', 'onedl-mmcv', 'onedl-mmcv is in {venv} already, compiled: it stays', ''),
        ('full', 'mmcv-lite', '', 'uninstall -qy mmcv-lite'),
        ('full', 'onedl-mmcv', 'error: {venv} has onedl-mmcv already', ''),
    ],
)
def test_no_mmcv_is_laid_over_another(tmp_path, kind, owner, says, calls):
    python = _stub_python(tmp_path, abi='an-abi', owner=owner)
    run = _set_up(tmp_path, MMCV=kind)
    assert says.format(venv=tmp_path / 'venv') in run.stdout + run.stderr
    asked = (
        python.with_name('python.pip').read_text()
        if python.with_name('python.pip').exists()
        else ''
    )
    assert calls in asked
    assert 'mmcv-lite.txt' not in asked


@pytest.mark.parametrize(
    ('built_with', 'abi', 'does'),
    [
        ('not available', 'cp312-torch2.11.0-cpu-linux', True),
        ('not available', 'cp312-torch2.11.0-cu13.0-for-9.0-linux', False),
        ('13.0', 'cp312-torch2.11.0-cu13.0-for-9.0-linux', True),
    ],
)
def test_ops_for_the_cpu_alone_do_not_do_for_a_gpu(tmp_path, built_with, abi, does):
    ops = tmp_path / 'mmcv' / 'ops.py'
    ops.parent.mkdir()
    ops.with_name('__init__.py').touch()
    ops.write_text(f'get_compiling_cuda_version = lambda: {built_with!r}\n')
    _stub_python(tmp_path, abi, ops_from=tmp_path)
    run = _set_up(tmp_path)
    if does:
        assert run.returncode == 0, run.stderr
    else:
        assert 'need the toolkit' in run.stderr


@pytest.mark.parametrize(
    ('environment', 'ops'),
    [
        (dict(CUDA_VISIBLE_DEVICES=''), 'cpu'),
        (
            dict(FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST='8.0;9.0+PTX'),
            f'cu{torch.version.cuda}-for-8.0-9.0+PTX',
        ),
    ],
)
def test_wheels_for_other_gpus_are_kept_apart(tmp_path, environment, ops):
    """A home may be shared by machines with other GPUs, on which a wheel has no kernels."""
    nvcc = tmp_path / 'cuda' / 'bin' / 'nvcc'
    nvcc.parent.mkdir(parents=True)
    nvcc.touch(mode=0o755)
    headers = tmp_path / 'cuda' / 'include' / 'crt' / 'host_defines.h'
    headers.parent.mkdir(parents=True)
    headers.touch()
    _stub_python(tmp_path, cuda_home=nvcc.parents[1])
    _set_up(tmp_path, **environment)
    (kept,) = (tmp_path / 'cache' / 'wheels').iterdir()
    assert f'-torch{torch.__version__.split("+")[0]}-{ops}-' in kept.name


def _stub_python(
    folder: Path,
    abi: str = '',
    cuda_home: Path | None = None,
    ops_from: Path | None = None,
    owner: str = '',
) -> Path:
    """An environment whose Python builds no wheel and has no mmcv but that of ``ops_from``.

    It says that its kind is ``abi``, by default what this Python says of itself, and that the
    folder ``mmcv`` is ``owner``'s. The only nvcc on PATH says nothing.
    """
    check_ops = f'PYTHONPATH={ops_from} exec {sys.executable} "$@"' if ops_from else 'exit 1'
    python = folder / 'venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\n'
        'case "$*" in\n'
        f'    *distributions*) echo {owner} ;;\n'
        f'    *mmcv.ops*) {check_ops} ;;\n'
        '    *" wheel "*) printf "%s\\n" "$*" "$PATH" "$CUDA_HOME" >"$0.wheel"\n'
        '        echo no wheel; exit 1 ;;\n'
        '    *" pip "*) echo "$*" >>"$0.pip" ;;\n'
        '    *torch.version.cuda*) echo 13.0 ;;\n'
        f'    *CUDA_HOME*) echo {cuda_home or ""} ;;\n'
        f'    -) {f"echo {abi}" if abi else f"exec {sys.executable} -"} ;;\n'
        'esac\n'
    )
    python.chmod(0o755)
    nvcc = folder / 'bin' / 'nvcc'
    nvcc.parent.mkdir()
    nvcc.write_text('#!/bin/sh\n')
    nvcc.chmod(0o755)
    return python


def _set_up(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script with options, or for ``folder / 'venv'``."""
    ours = {
        'MMCV': 'full',
        'MMDET_ATC_LOCKED': '',
        'MMDET_ATC_CACHE': str(folder / 'cache'),
        'PATH': f'{folder / "bin"}:{os.environ["PATH"]}',
    }
    return subprocess.run(
        ['tools/setup_env.sh', *(options or [str(folder / 'venv')])],
        cwd=ROOT,
        env={**os.environ, 'CUDA_HOME': '', **ours, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
