"""Which Triton the kernels are given to."""

from __future__ import annotations

import pytest

from mmdet_atc.native import why_no_triton


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
