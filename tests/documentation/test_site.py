"""The site builds without a warning, and what it needs is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ..conftest import ROOT

DOCS = ROOT / 'docs'


class _Loader(yaml.SafeLoader):
    """Of a file whose tags name Python objects, which matter only to MkDocs."""


_Loader.add_multi_constructor('tag:yaml.org,2002:python/', lambda *_: None)


def pages(node) -> list[str]:
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node
    return [page for child in children for page in pages(child)]


def test_every_page_is_in_the_navigation():
    config = yaml.load((ROOT / 'mkdocs.yml').read_text(), _Loader)
    assert config['strict'] is True
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob('*.md')}
    assert set(pages(config['nav'])) == there


def test_every_package_has_an_api_page():
    packages = {p.parent.name for p in (ROOT / 'mmdet_atc').glob('*/__init__.py')} - {'native'}
    assert {path.stem for path in (DOCS / 'api').glob('*.md')} == packages


@pytest.mark.parametrize('page', sorted(DOCS.glob('*.md')), ids=lambda path: path.stem)
def test_files_that_a_page_names_exist(page: Path):
    text = page.read_text()
    named = re.findall(r'(?:configs|tools|demo|docs|tests|mmdet_atc)/[\w/.]+\.(?:py|sh|md)\b', text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip('mkdocs', reason='pip install -r requirements/docs.txt')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', str(tmp_path / 'site')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    concepts = (tmp_path / 'site/concepts/index.html').read_text()
    assert concepts.count('<math') > 10
    assert 'arithmatex' not in concepts
    assert 'images/data_flow.svg' in concepts
    merging = (tmp_path / 'site/api/merging/index.html').read_text()
    assert 'mmdet_atc.merging.TokenClusters.unmerge' in merging
    assert ':meth:' not in merging
    # Nothing is fetched from elsewhere.
    for path in (tmp_path / 'site').rglob('*.html'):
        sources = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:)?//', path.read_text()
        )
        assert not sources, path
