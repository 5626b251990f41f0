"""Triton's kernels: which Triton they are given to, and that they compile."""

from __future__ import annotations

import re

import pytest

from mmdet_atc.native import why_no_triton

from .conftest import ROOT
from .tools.processes import run_afresh


@pytest.mark.parametrize(
    ('version', 'reason'), [('3.4.0', 'torch 2.9'), ('3.5.1', ''), ('4.0.0+git12ab', '')]
)
def test_a_triton_that_cannot_compile_the_kernels_is_not_used(version, reason, monkeypatch):
    triton = pytest.importorskip('triton', reason='Triton is not installed')
    monkeypatch.setattr(triton, '__version__', version)
    why_no_triton.cache_clear()
    try:
        if reason:
            with pytest.warns(UserWarning, match='Triton 3.4.0'):
                assert reason in why_no_triton()
        assert bool(why_no_triton()) is bool(reason)
    finally:
        why_no_triton.cache_clear()


@pytest.mark.slow
def test_every_kernel_compiles(tmp_path):
    """For two GPUs, without one."""
    pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
    from mmdet_atc.clustering.forms.triton.engine import SHARED_BYTES

    run = run_afresh(
        tmp_path, '-m', 'tests.compile_kernels',
        TRITON_INTERPRET='0', TRITON_CACHE_DIR=str(tmp_path),
    )  # fmt: skip
    lines = [line.split() for line in run.stdout.splitlines()]
    found = {(architecture, name) for architecture, name, _ in lines}
    sources = '\n'.join(path.read_text() for path in (ROOT / 'mmdet_atc').rglob('*.py'))
    names = re.findall(r'@triton\.jit(?:\([^)]*\))?\ndef (\w+_kernel)\(', sources)
    assert len(names) == 18
    assert found == {(architecture, name) for architecture in ('80', '90') for name in names}
    # What a program can have: on an H100, and on others, of which consumer GPUs have least.
    most = {'80': 99 * 1024, '90': 227 * 1024}
    assert all(int(shared) <= most[architecture] for architecture, _, shared in lines)
    # So many are counted on, so that programs that wait for each other run at the same time.
    waiting = [int(shared) for _, name, shared in lines if name == 'cluster_kernel']
    assert len(waiting) == 4
    assert max(waiting) <= SHARED_BYTES
