"""Compiling the C++ form at its first use: races, and machines without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..conftest import ROOT

CODE = """
import torch, warnings
from mmdet_atc.clustering import agglomerative_clustering
from mmdet_atc.clustering.forms import cpp
torch.manual_seed(0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    for _ in range(2):
        labels = agglomerative_clustering(torch.randn(2, 50, 8), 20)
print(cpp.is_available(), [str(w.message) for w in caught], labels.sum().item())
"""


def start(**env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', CODE],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_eight_processes_one_compiles_and_says_so(tmp_path):
    """With a compiler that comes with arguments, such as ``ccache g++``."""
    own = dict(MMDET_ATC_CACHE=str(tmp_path), CXX='g++ -g0')
    processes = [start(**own) for _ in range(8)]
    outputs, errors = zip(*(process.communicate(timeout=300) for process in processes))
    assert len(set(outputs)) == 1
    assert outputs[0].startswith('True []')
    assert ''.join(errors).count('compiling') == 1
    assert len(list((tmp_path / 'native').iterdir())) == 1


@pytest.fixture(scope='module')
def native():
    """What is printed where there is the library."""
    return start().communicate(timeout=300)[0]


@pytest.mark.parametrize(
    ('env', 'message'),
    [
        (dict(PATH='/nowhere', CXX=''), 'no C++ compiler'),
        (dict(CXX='/bin/false'), 'compiling with /bin/false failed'),
        (dict(MMDET_ATC_NATIVE='0'), None),
    ],
)
def test_without_the_library_plain_torch_takes_over_with_the_same_labels(
    native, tmp_path, env, message
):
    output, _ = start(MMDET_ATC_CACHE=str(tmp_path), **env).communicate(timeout=300)
    assert output.startswith('False')
    assert output.split()[-1] == native.split()[-1]
    if message is None:  # it was asked for
        assert '[]' in output
    else:
        assert message in output
        assert output.count('plain torch') == 1
