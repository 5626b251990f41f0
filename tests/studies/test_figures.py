"""Figures are appended with what they were measured on."""

from __future__ import annotations

import csv
import subprocess

import torch

from mmdet_atc.studies import figures
from mmdet_atc.studies.figures import COLUMNS, append_figures

CPU = torch.device('cpu')


def test_figures_are_appended_below_one_head(tmp_path):
    path = tmp_path / 'new' / 'figures.csv'
    append_figures(path, 'a', [('T', 'time', [3.0, 1.0, 2.0, 4.0, 5.0, 100.0], 'ms')], CPU)
    append_figures(path, 'b', [('S', 'memory', [7.0], 'MiB')], CPU)
    head, first, second = csv.reader(path.open())
    assert tuple(head) == COLUMNS
    found = dict(zip(head, first))
    assert (found['median'], found['low'], found['high']) == ('3.5', '2', '5')
    assert found['torch'] == torch.__version__
    assert found['commit']
    assert second[5:] == ['b', 'S', 'memory', '7', '7', '7', 'MiB']


def test_a_change_anywhere_in_the_package_is_told(tmp_path, monkeypatch):
    def git(*args):
        identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
        subprocess.run(['git', '-C', str(tmp_path), *identity, *args], check=True)

    package = tmp_path / 'mmdet_atc'
    for folder in ('studies', 'clustering'):
        (package / folder).mkdir(parents=True)
        (package / folder / 'one.py').write_text('1')
    monkeypatch.setattr(figures, '__file__', str(package / 'studies' / 'figures.py'))
    git('init', '-q')
    git('add', '.')
    git('commit', '-qm', 'all')
    path = tmp_path / 'figures.csv'
    append_figures(path, 'a', [('T', 'time', [1.0], 'ms')], CPU)
    (package / 'clustering' / 'one.py').write_text('2')
    append_figures(path, 'a', [('T', 'time', [1.0], 'ms')], CPU)
    clean, changed = (row['commit'] for row in csv.DictReader(path.open()))
    assert changed == clean + '+'
