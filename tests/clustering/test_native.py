"""Compiling the engine: races, and machines without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mmdet_atc.clustering import linkage_clustering, native

from ..conftest import ROOT

CODE = """
import torch, warnings
from mmdet_atc.clustering import agglomerative_clustering, native
torch.manual_seed(0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    for _ in range(2):
        labels = agglomerative_clustering(torch.randn(2, 50, 8), 20)
print(native.is_available(), [str(w.message) for w in caught], labels.sum().item())
"""


def start(**env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', CODE],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize('linkage', ['single', 'complete', 'average'])
def test_the_part_above_the_diagonal_decides_as_in_scikit_learn(linkage):
    upper = torch.rand(1, 70, 70, generator=torch.Generator().manual_seed(0)).triu(1)
    garbage = upper + torch.full((70, 70), 1e30).tril()
    expected = linkage_clustering(upper + upper.mT, 20, linkage, 'sklearn')
    assert torch.equal(linkage_clustering(garbage, 20, linkage), expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('num_tokens', [1, 15, 16, 17, 64, 1024])
def test_rows_are_padded_to_an_odd_number_of_cache_lines(dtype, num_tokens):
    square = native.empty_square(2, num_tokens, dtype)
    assert square.shape == (2, num_tokens, num_tokens)
    assert square.stride(1) * dtype.itemsize % 128 == 64
    assert square.stride(1) - num_tokens < 128 // dtype.itemsize


def test_processes_may_compile_at_once_into_an_empty_cache(tmp_path):
    processes = [start(MMDET_ATC_CACHE=str(tmp_path)) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert len(set(outputs)) == 1
    assert outputs[0].startswith('True []')
    assert len(list((tmp_path / 'native').iterdir())) == 1


@pytest.mark.parametrize(
    ('env', 'message'),
    [
        (dict(PATH='/nowhere', CXX=''), 'no C++ compiler'),
        (dict(CXX='/bin/false'), 'compiling with /bin/false failed'),
    ],
)
def test_without_a_working_compiler_scipy_takes_over_with_one_warning(tmp_path, env, message):
    processes = [start(), start(MMDET_ATC_CACHE=str(tmp_path), **env)]
    native, output = (process.communicate(timeout=300)[0] for process in processes)
    assert output.startswith('False')
    assert output.count('falls') == 1
    assert message in output
    assert output.split()[-1] == native.split()[-1]
