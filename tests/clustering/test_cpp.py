"""The C++ form: limits that prove too small, threads, memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from mmdet_atc.clustering import NonFiniteError, agglomerative_clustering, linkage
from mmdet_atc.clustering.distances import FRACTION_BITS, fixed_point, token_distances
from mmdet_atc.clustering.forms import cpp

from ..conftest import ROOT
from .families import FAMILIES, LINKAGES, features_of


@contextlib.contextmanager
def limit_rule(linkage, **values):
    rule = cpp.limit_rules()[linkage]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(rule, name, value)
        yield


@pytest.mark.parametrize('stretch', [0.0, 0.5, 1e6])
@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('linkage', LINKAGES)
def test_a_wrong_guess_of_the_limit_changes_no_label(linkage, family, stretch):
    features = features_of(family, 3, 250, 9, torch.float32)
    for num_clusters in (1, 60, 125, 240):
        expected = cpp.cluster_features(features, num_clusters, linkage)
        with limit_rule(linkage, power=1, margin=0, stretch=stretch):
            assert torch.equal(cpp.cluster_features(features, num_clusters, linkage), expected)


@pytest.mark.parametrize('channels', [1, 2, 23, 24, 25, 64, 100, 384])
def test_any_number_of_channels(channels):
    features = torch.randn(2, 150, channels)
    for method in LINKAGES:
        near = cpp.cluster_features(features, 70, method)
        with limit_rule(method, power=1, margin=0, stretch=0.0):
            assert torch.equal(cpp.cluster_features(features, 70, method), near)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('batch', [1, 3, 8])
def test_threads_and_runs_do_not_change_labels(linkage, batch, monkeypatch):
    features = torch.randn(batch, 700, 16)
    expected = None
    for threads in (1, 2, 5, 1):
        monkeypatch.setattr(torch, 'get_num_threads', lambda threads=threads: threads)
        labels = agglomerative_clustering(features, 350, linkage)
        expected = labels if expected is None else expected
        assert torch.equal(labels, expected)


def test_the_limit_is_guessed_from_a_smooth_map_so_that_few_pairs_do():
    """A field of keys as a feature map has; most pairs are never looked at exactly."""
    coarse = torch.randn(1, 64, 10, 16, generator=torch.Generator().manual_seed(1))
    field = torch.nn.functional.interpolate(coarse, (50, 84), mode='bicubic')
    keys = (field + 0.1 * torch.randn(field.shape)).flatten(2).transpose(1, 2)
    for method in LINKAGES:
        ((_, pairs, left),) = cpp.near_pairs(keys, 2100, method).tolist()
        assert left == 2100
        assert pairs < 0.02 * 4200**2 / 2


def test_a_distance_of_zero_among_many_zero_vectors_is_found():
    """No sample has the three tokens whose pairs tie: f, an equal one, and one that is almost."""
    features = torch.zeros(1, 3000, 2, dtype=torch.float64)
    features[0, 1001] = torch.tensor([1.0, 1e-12], dtype=torch.float64)
    features[0, [1003, 1006], 0] = 1
    for method in LINKAGES:
        labels = cpp.cluster_features(features, 2999, method)[0].tolist()
        assert labels[1001] == labels[1003] != labels[1006]  # the lowest pair, not the equal ones


def run_with_limited_memory(code: str) -> list[str]:
    """Threads have stacks of 64 MiB: where the next one does not fit there is memory left."""
    command = ['sh', '-c', 'ulimit -s 65536 && exec "$0" -c "$1"', sys.executable, code]
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}  # torch's own threads would not start either
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_too_little_memory_is_an_error_and_near_pairs_need_little():
    """As much as a float32 matrix: near pairs do, all pairs do not fit."""
    code = """
import resource, torch
from mmdet_atc.clustering import agglomerative_clustering
agglomerative_clustering(torch.randn(1, 500, 4), 20)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
torch.get_num_threads = lambda: 1  # a new thread without memory ends the process
plane, noise = torch.randn(1, 4000, 3), torch.randn(1, 4000, 64)
for linkage in ('single', 'complete', 'average'):
    print(agglomerative_clustering(plane, 2000, linkage).max().item())
    try:
        agglomerative_clustering(noise, 1, linkage)
    except MemoryError as error:
        print(error)
"""
    expected = ['1999', 'not enough memory to cluster (1, 4000, 64)']
    assert run_with_limited_memory(code) == 3 * expected


def test_threads_that_cannot_be_started_leave_their_share_to_the_others():
    """Address space for a few stacks, where 64 threads are asked for."""
    code = """
import resource, torch
from mmdet_atc.clustering import agglomerative_clustering
features = torch.randn(64, 200, 8)
expected = agglomerative_clustering(features, 100)
torch.get_num_threads = lambda: 64  # OpenMP's own threads would end the process
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
print(torch.equal(agglomerative_clustering(features, 100), expected))
"""
    assert run_with_limited_memory(code) == ['True']


@pytest.mark.parametrize('num_clusters', [1, 20, np.int64(60)])
@pytest.mark.parametrize('method', LINKAGES)
def test_linkage_gives_the_rows_that_scipy_does(method, num_clusters):
    features = features_of(FAMILIES[0], 5, 60, 8, batch=2)
    rows = linkage(features, num_clusters, method)
    assert rows.shape == (2, 60 - num_clusters, 4)
    for image, found in zip(features, rows.numpy()):
        distances = token_distances(fixed_point(image)).double().numpy() / 2**FRACTION_BITS
        expected = scipy_linkage(squareform(distances), method)[: 60 - num_clusters]
        np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
        np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=0, atol=1e-15)


def test_linkage_of_no_image():
    assert linkage(torch.rand(0, 5, 4), 2).shape == (0, 3, 4)


def test_linkage_refuses_what_clustering_refuses(monkeypatch):
    with pytest.raises(ValueError, match=r"linkage must be one of .* got 'ward'"):
        linkage(torch.rand(1, 4, 4), method='ward')
    with pytest.raises(NonFiniteError):
        linkage(torch.full((1, 4, 4), torch.nan))
    monkeypatch.setenv('MMDET_ATC_NATIVE', '0')
    with pytest.raises(RuntimeError, match='MMDET_ATC_NATIVE is 0'):
        linkage(torch.rand(1, 4, 4))
