"""The check of clustering on a GPU, run here on the host."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from mmdet_atc.studies.speed import gpu_clustering
from mmdet_atc.studies.speed.gpu_clustering import compared

from ...conftest import ROOT
from ...tools.processes import run

TOOL = 'tools/analysis_tools/check_gpu_clustering.py'


def test_every_case_is_compared_and_timed(tmp_path: Path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / 'keys.npz', keys=rng.normal(size=(2, 3, 96, 8)).astype(np.float16))
    csv_file = tmp_path / 'figures.csv'
    options = ['--device', 'cpu', '--repeats', '2', '--linkages', 'average', 'single']
    keys = str(tmp_path / 'keys.npz')
    result = run(tmp_path, TOOL, keys, *options, '--figures', str(csv_file))
    cases = [case for case, _, _ in gpu_clustering.cases(torch.rand(2, 96, 8))]
    for linkage in ('average', 'single'):
        for case in cases:
            assert f'{linkage}: {case}: equal' in result.stdout
    with csv_file.open() as file:
        timed = [row['case'] for row in csv.DictReader(file)]
    assert 'single, batch 2, the 3 merges of a forward, r=0.5' in timed
    assert 'average, a flat image, K=1, plain torch' in timed


def test_other_labels_are_told(monkeypatch):
    right = gpu_clustering.agglomerative_clustering

    def second_image_is_wrong(features, num_clusters, linkage, backend='auto'):
        labels = right(features, num_clusters, linkage)
        if backend == 'auto':
            labels[1:] = labels[1:].flip(1)
        return labels

    monkeypatch.setattr(gpu_clustering, 'agglomerative_clustering', second_image_is_wrong)
    answer = next(compared(torch.rand(3, 32, 4), 'single', 'cpu'))
    assert answer.wrong == '2 of 3 images differ'


def test_a_kernel_without_end_ends_the_check(tmp_path):
    np.savez(tmp_path / 'keys.npz', keys=np.ones((1, 1, 96, 8), np.float16))
    program = f"""
import runpy, sys, time
from mmdet_atc.studies.speed import gpu_clustering
gpu_clustering.agglomerative_clustering = lambda *args, **kwargs: time.sleep(600)
sys.argv = ['', {str(tmp_path / 'keys.npz')!r}, '--device', 'cpu', '--limit', '1']
runpy.run_path({str(ROOT / TOOL)!r}, run_name='__main__')
"""
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.returncode == 1
    assert 'Timeout (0:00:01)!' in result.stderr
