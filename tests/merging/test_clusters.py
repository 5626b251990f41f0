"""TokenClusters: one composed label map is all that nested merging needs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdet_atc.merging import TokenClusters, segment_mean


def random_labels(batch: int, num_tokens: int, num_clusters: int) -> torch.Tensor:
    """Random labels in which every cluster has a member."""
    rows = []
    for _ in range(batch):
        rest = torch.randint(num_clusters, (num_tokens - num_clusters,))
        rows.append(torch.cat([torch.arange(num_clusters), rest])[torch.randperm(num_tokens)])
    return torch.stack(rows)


def merged(batch=2, num_patches=24, counts=(12, 5, 2), channels=3, dtype=torch.float64):
    """Patches, then after each merge the tokens, the clusters and the labels of that merge."""
    patches = torch.randn(batch, num_patches, channels, dtype=dtype)
    tokens = patches
    clusters = TokenClusters.identity(batch, num_patches, patches.device)
    history = []
    for count in counts:
        labels = random_labels(batch, tokens.shape[1], count)
        tokens, clusters = clusters.merge_tokens(tokens, labels, count)
        history.append((tokens, clusters, labels))
    return patches, history


@given(seed=st.integers(0, 2**31), counts=st.sampled_from([(12, 5, 2), (24, 23, 1), (7,), (1,)]))
def test_composed_clusters_equal_nested_weighted_means(seed, counts):
    torch.manual_seed(seed)
    patches, history = merged(counts=counts)
    for tokens, clusters, _ in history:
        torch.testing.assert_close(clusters.merge(patches), tokens)


@given(seed=st.integers(0, 2**31))
def test_composed_labels_equal_following_each_merge(seed):
    torch.manual_seed(seed)
    _, history = merged()
    for image in range(2):
        for patch in range(24):
            token = patch
            for _, clusters, labels in history:
                token = labels[image, token].item()
                assert clusters.labels[image, patch] == token


def test_sizes_count_patches():
    _, history = merged()
    for _, clusters, _ in history:
        for labels, sizes in zip(clusters.labels, clusters.sizes):
            assert torch.equal(torch.bincount(labels).float(), sizes)


def test_unmerge_gives_each_patch_its_clusters_token():
    _, history = merged()
    tokens, clusters, _ = history[1]
    patches = clusters.unmerge(tokens)
    for image in range(2):
        for patch in range(24):
            expected = tokens[image, clusters.labels[image, patch]]
            assert torch.equal(patches[image, patch], expected)
    torch.testing.assert_close(clusters.merge(patches), tokens)


def test_images_of_a_batch_do_not_mix():
    patches, history = merged()
    for tokens, clusters, _ in history:
        for image in range(2):
            alone = TokenClusters(
                clusters.labels[image : image + 1], clusters.sizes[image : image + 1]
            )
            torch.testing.assert_close(alone.merge(patches[image : image + 1])[0], tokens[image])


def test_gradients_are_exact():
    _, history = merged(num_patches=10, counts=(6, 3), channels=2)
    clusters, labels = history[0][1], random_labels(2, 6, 3)
    patches = torch.randn(2, 10, 2, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clusters.merge, patches)
    assert torch.autograd.gradcheck(clusters.unmerge, tokens)
    assert torch.autograd.gradcheck(lambda x: clusters.merge_tokens(x, labels, 3)[0], tokens)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype):
    # 4,096 halves summed one by one in half precision would stall at 2,048 (fp16), 256 (bf16).
    x = torch.full((1, 4096, 1), 1.0, dtype=dtype)
    mean, _ = segment_mean(x, torch.zeros(1, 4096, dtype=torch.long), 1)
    assert mean.dtype == dtype
    assert mean.item() == 1.0


@given(seed=st.integers(0, 2**31))
def test_pruned_patches_count_for_nothing_and_get_their_clusters_token_back(seed):
    torch.manual_seed(seed)
    patches = torch.randn(2, 24, 3, dtype=torch.float64)
    tokens, clusters = patches, TokenClusters.identity(2, 24, patches.device)
    kept = torch.arange(24).expand(2, -1)  # patch of each token
    for count in (12, 5, 2):
        labels = random_labels(2, tokens.shape[1], count)
        first = torch.stack(
            [torch.stack([(row == c).nonzero()[0, 0] for c in range(count)]) for row in labels]
        )
        weights = torch.zeros(labels.shape).scatter_(1, first, 1)
        tokens, clusters = clusters.merge_tokens(tokens, labels, count, weights)
        kept = kept.gather(1, first)
        assert torch.equal(clusters.sizes, torch.ones(2, count))
        for image in range(2):
            expected = patches[image, kept[image]]
            assert torch.equal(tokens[image], expected)
            assert torch.equal(clusters.merge(patches)[image], expected)
            assert torch.equal(clusters.unmerge(tokens)[image, kept[image]], expected)


def test_weights_and_sizes_weigh_a_mean():
    patches = torch.tensor([[[1.0], [3], [8], [0]]])
    clusters = TokenClusters.identity(1, 4, patches.device)
    tokens, clusters = clusters.merge_tokens(patches, torch.tensor([[0, 0, 1, 2]]), 3)
    merged, clusters = clusters.merge_tokens(
        tokens, torch.tensor([[0, 0, 1]]), 2, torch.tensor([[0.5, 1.0, 2.0]])
    )
    assert merged.flatten().tolist() == [(0.5 * 2 * 2 + 8) / 2, 0]
    assert clusters.sizes.tolist() == [[2, 2]]
    assert clusters.merge(patches).flatten().tolist() == merged.flatten().tolist()
