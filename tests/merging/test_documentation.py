"""Every merger is in the table of docs/mergers.md."""

from __future__ import annotations

from ..conftest import ROOT


def test_every_merger_is_documented():
    import mmdet_atc.merging as merging

    text = (ROOT / 'docs/mergers.md').read_text()
    names = [name for name in merging.__all__ if name.endswith('Merging')]
    assert len(names) > 5
    for name in names:
        assert f'| `{name}` |' in text
