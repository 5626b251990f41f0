"""Token mergers: keep rates, errors, and ToMe against its definition."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmdet_atc.merging import (
    TOKEN_MERGERS,
    AgglomerativeMerging,
    BipartiteMerging,
    agglomerative,
)

ALL = list(TOKEN_MERGERS.module_dict.values())


@pytest.mark.parametrize('merger', ALL)
@pytest.mark.parametrize(
    'keep_rate', [0, -0.1, 1.5, math.nan, math.inf, '0.5', None, True, [], [0.5, 0]]
)
def test_bad_keep_rate_is_refused(merger, keep_rate):
    with pytest.raises(ValueError, match='keep_rate'):
        merger(keep_rate=keep_rate)


def test_unknown_linkage_and_backend_are_refused():
    with pytest.raises(ValueError, match=r"linkage must be one of .* got 'ward'"):
        AgglomerativeMerging(linkage='ward')
    with pytest.raises(ValueError, match=r"backend must be one of .* got 'gpu'"):
        AgglomerativeMerging(backend='gpu')


def test_keep_rates_per_block():
    assert AgglomerativeMerging(0.5).keep_rates(3) == (0.5, 0.5, 0.5)
    assert AgglomerativeMerging((0.9, 0.5, 0.25)).keep_rates(3) == (0.9, 0.5, 0.25)
    with pytest.raises(ValueError, match=r'one per merge block \(3\), got 2'):
        AgglomerativeMerging((0.9, 0.5)).keep_rates(3)


@pytest.mark.parametrize(
    ('num_tokens', 'keep_rate', 'agglomerative', 'bipartite'),
    [
        (24, 0.5, 12, 12),
        (25, 0.5, 12, 13),
        (25, 0.25, 6, 13),
        (7, 0.9, 6, 6),
        (2, 0.25, 1, 1),
        (1, 0.25, 1, 1),
    ],
)
def test_number_of_clusters(num_tokens, keep_rate, agglomerative, bipartite):
    assert AgglomerativeMerging(keep_rate).num_clusters(num_tokens, keep_rate) == agglomerative
    assert BipartiteMerging(keep_rate).num_clusters(num_tokens, keep_rate) == bipartite


def tome_by_its_definition(keys: torch.Tensor, num_merged: int) -> list[set[int]]:
    """Clusters of one image, read off section 3 of the ToMe paper."""
    even, odd = range(0, len(keys), 2), range(1, len(keys), 2)
    proposals = []
    for i in even:
        similarity = [F.cosine_similarity(keys[i], keys[j], dim=0).item() for j in odd]
        best = max(range(len(odd)), key=similarity.__getitem__)
        proposals.append((similarity[best], i, odd[best]))
    clusters = {i: {i} for i in range(len(keys))}
    for _, i, j in sorted(proposals, reverse=True)[:num_merged]:
        clusters[j] |= clusters.pop(i)
    return sorted(clusters.values(), key=min)


@pytest.mark.parametrize('num_tokens', [2, 9, 24, 25])
@pytest.mark.parametrize('keep_rate', [0.5, 0.7, 0.9, 1.0])
def test_tome_merges_the_most_similar_pairs(num_tokens, keep_rate):
    keys = torch.randn(3, num_tokens, 8, dtype=torch.float64)
    merger = BipartiteMerging(keep_rate)
    num_clusters = merger.num_clusters(num_tokens, keep_rate)
    labels = merger.assign(keys, num_clusters)
    assert labels.dtype == torch.int64
    for image in range(3):
        clusters = [
            set(torch.nonzero(labels[image] == c).flatten().tolist()) for c in range(num_clusters)
        ]
        expected = tome_by_its_definition(keys[image].float(), num_tokens - num_clusters)
        assert sorted(clusters, key=min) == expected


def test_agglomerative_merging_clusters_by_cosine_distance():
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    keys = (directions.repeat(4, 1) * torch.rand(12, 1).add(0.1))[None]
    for linkage in ('single', 'complete', 'average'):
        labels = AgglomerativeMerging(0.25, linkage).assign(keys, 3)
        assert labels.tolist() == [[0, 1, 2] * 4]


@pytest.mark.parametrize(
    ('dtype', 'training', 'check_finite'),
    [
        (torch.float16, True, False),
        (torch.float16, False, None),
        (torch.bfloat16, True, None),  # has the range of float32 and no loss scaler
        (None, True, None),
    ],
)
def test_an_overflow_that_a_loss_scaler_sees_is_no_error(
    monkeypatch, dtype, training, check_finite
):
    asked = []

    def cluster(keys, num_clusters, linkage, backend, check_finite):
        asked.append(check_finite)

    monkeypatch.setattr(agglomerative, 'agglomerative_clustering', cluster)
    keys = torch.rand(1, 4, 8)
    with (
        torch.set_grad_enabled(training),
        torch.autocast('cpu', dtype=dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        AgglomerativeMerging().assign(keys, 2)
    assert asked == [check_finite]
