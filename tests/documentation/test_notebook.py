"""demo/atc_inference.ipynb, its code cells run in turn as they stand."""

from __future__ import annotations

import ast
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ..conftest import ROOT

NOTEBOOK = ROOT / 'demo' / 'atc_inference.ipynb'


@pytest.fixture(scope='module')
def notebook() -> dict:
    return json.loads(NOTEBOOK.read_text())


def cells(notebook: dict, kind: str) -> list[dict]:
    return [cell for cell in notebook['cells'] if cell['cell_type'] == kind]


def test_it_is_kept_without_outputs(notebook):
    assert notebook['nbformat'] == 4
    assert len({cell['id'] for cell in notebook['cells']}) == len(notebook['cells'])
    for cell in cells(notebook, 'code'):
        assert cell['outputs'] == []
        assert cell['execution_count'] is None


def test_files_that_it_names_exist(notebook):
    text = ''.join(line for cell in notebook['cells'] for line in cell['source'])
    named = re.findall(r'(?:configs|tools|demo|docs)/[\w/.]+\.(?:py|md)\b', text)
    assert len(named) >= 5
    assert not [name for name in named if not (ROOT / name).exists()]


def test_it_runs_headless(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    shown = []
    monkeypatch.setattr(plt, 'show', lambda: shown.append(plt.gcf()))
    plt.switch_backend('agg')
    space: dict = {'__name__': '__main__'}
    for cell in cells(notebook, 'code'):
        tree = ast.parse(''.join(cell['source']))
        exec(compile(tree, f'{NOTEBOOK.name}: {cell["id"]}', 'exec'), space)
    plt.close('all')

    # Detections, the stages of two images, and one method without training.
    assert len(shown) == 4
    assert [len(figure.axes) for figure in shown] == [2, 4, 4, 4]
    for image, picture in zip(space['IMAGES'], space['pictures'], strict=True):
        assert (plt.imread(image) * 255).round().astype(np.uint8).shape == picture.shape
    for stages in space['stages']:
        patches = stages[0].size
        assert [int(s.max()) + 1 for s in stages] == [patches // 2, patches // 4, patches // 8]

    table = space['table']
    assert table['dense'] == ([], 0)
    for linkage in ('single', 'average', 'complete'):
        differences = [table[f'ATC {linkage} {rate}'][1] for rate in (0.9, 0.5, 0.25)]
        assert differences[0] > 0
        assert differences == sorted(differences)
