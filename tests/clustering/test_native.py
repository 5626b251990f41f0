"""Compiling the engine: races, and machines without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from mmdet_atc.clustering import agglomerative_clustering, linkage_clustering, native
from mmdet_atc.clustering.distances import cosine_distances

from ..conftest import ROOT

LINKAGES = ['single', 'complete', 'average']

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


@pytest.mark.parametrize('linkage', LINKAGES)
def test_the_part_above_the_diagonal_decides_as_in_scikit_learn(linkage):
    upper = torch.rand(1, 70, 70, generator=torch.Generator().manual_seed(0)).triu(1)
    garbage = upper + torch.full((70, 70), 1e30).tril()
    expected = linkage_clustering(upper + upper.mT, 20, linkage, 'sklearn')
    assert torch.equal(linkage_clustering(garbage, 20, linkage), expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('num_tokens', [1, 2, 47, 48, 49, 129, 300])
@pytest.mark.parametrize('channels', [1, 7, 64])
def test_cosine_distances_are_those_of_exact_arithmetic_up_to_rounding(dtype, num_tokens, channels):
    directions = F.normalize(torch.randn(2, num_tokens, channels, dtype=dtype), dim=-1)
    upper = native.upper_cosine_distances(directions)
    exact = directions.double()
    expected = (1 - exact @ exact.mT).triu(1)
    rounding = channels * torch.finfo(dtype).eps
    torch.testing.assert_close(upper.double(), expected, rtol=0, atol=rounding)
    assert torch.equal(upper, upper.triu(1))


def test_float_cosine_distances_are_multiples_of_what_their_sums_rely_on():
    directions = F.normalize(torch.randn(1, 500, 64) + 1, dim=-1)
    steps = native.upper_cosine_distances(directions).double() * 2**24
    assert torch.equal(steps, steps.round())


def near_ties(seed: int, num_tokens: int) -> torch.Tensor:
    """Directions with many distances that are equal but for their last bits."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(-2, 3, (1, num_tokens, 24), generator=generator).float()
    features += torch.randint(0, 2, (1, num_tokens, 1), generator=generator)
    return F.normalize(features, dim=-1)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('share', [0.0, 0.1, 1.0])
@pytest.mark.parametrize('seed', range(4))
def test_directions_are_clustered_by_their_very_distances(linkage, share, seed):
    directions = near_ties(seed, 333)
    distances = cosine_distances(directions)
    for num_clusters in (20, 100, 170, 300):
        with mock.patch.dict(native.NEAR_SHARE, {linkage: 0.0}):
            expected = native.cluster_squares(distances, num_clusters, linkage)
        with mock.patch.dict(native.NEAR_SHARE, {linkage: share}):
            labels = native.cluster_directions(directions, num_clusters, linkage)
        assert torch.equal(labels, expected)


def test_a_matrix_is_stored_only_where_it_is_needed_and_too_little_memory_is_an_error():
    """Under a limit of half of the matrix: near pairs do for a few merges, not down to one."""
    code = """
import resource, torch
from mmdet_atc.clustering import agglomerative_clustering
agglomerative_clustering(torch.randn(1, 500, 4), 20)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
features = torch.randn(1, 16000, 4)
for linkage in ('single', 'complete', 'average'):
    print(agglomerative_clustering(features, 15000, linkage).max().item())
    try:
        agglomerative_clustering(features, 1, linkage)
    except MemoryError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    expected = ['14999', 'not enough memory to cluster (1, 16000, 4)']
    assert run.stdout.splitlines() == 3 * expected, run.stderr


def test_one_and_a_half_matrices_of_memory_are_enough_for_an_image():
    """All distances of noise, near pairs of a smooth map, down to a half and to one cluster."""
    code = """
import resource, torch
import torch.nn.functional as F
from mmdet_atc.clustering import agglomerative_clustering
torch.get_num_threads = lambda: 1  # a thread's stack takes address space
smooth = F.interpolate(torch.randn(1, 16, 8, 8), (75, 80), mode='bicubic').flatten(2).mT
images = [torch.randn(1, 6000, 16), smooth.contiguous()]
agglomerative_clustering(images[0][:, :500], 20)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
limit = used + 6 * 6000**2
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for features in images:
    for linkage in ('single', 'complete', 'average'):
        for num_clusters in (1, 3000):
            print(agglomerative_clustering(features, num_clusters, linkage).max().item())
"""
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == 6 * ['0', '2999'], run.stderr


def test_threads_that_cannot_be_started_leave_their_share_to_the_others():
    """Address space for a few stacks of 8 MB, where 64 threads are asked for."""
    code = """
import resource, torch
from mmdet_atc.clustering import agglomerative_clustering
features = torch.randn(64, 200, 8)
expected = agglomerative_clustering(features, 100)
torch.get_num_threads = lambda: 64  # OpenMP's own threads would end the process
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
print(torch.equal(agglomerative_clustering(features, 100), expected))
"""
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == 'True\n', run.stderr


def test_other_python_threads_run_meanwhile():
    """A call of this size takes several hundred times as long as a turn of the loop below."""
    features = torch.randn(1, 3000, 64)
    agglomerative_clustering(features[:, :10], 5)
    done = threading.Event()

    def cluster() -> None:
        agglomerative_clustering(features, 1)
        done.set()

    worker = threading.Thread(target=cluster)
    worker.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(1e-4)
    worker.join()
    assert turns > 30


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
