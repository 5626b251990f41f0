"""Every form of clustering features gives the specification's labels, to the last one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from mmdet_atc.clustering import naive
from mmdet_atc.clustering.distances import FRACTION_BITS, fixed_point, token_distances
from mmdet_atc.clustering.forms import cpp, plain, sklearn_oracle

from ..conftest import SHARED
from .families import FAMILIES, LINKAGES, features_of, few_levels

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FORMS = [cpp, plain]
form_and_linkage = pytest.mark.parametrize(
    ('form', 'linkage'),
    [(form, linkage) for form in FORMS for linkage in LINKAGES],
    ids=lambda value: getattr(value, '__name__', value).split('.')[-1],
)


@form_and_linkage
@pytest.mark.parametrize('family', FAMILIES)
@settings(max_examples=12)
@given(data=st.data(), n=st.integers(1, 20), c=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_labels_equal_the_specification_ties_included(form, linkage, family, data, n, c, seed):
    num_clusters = data.draw(st.integers(1, n))
    features = features_of(family, seed, n, c, data.draw(st.sampled_from(DTYPES)), batch=2)
    expected = naive.cluster_features(features, num_clusters, linkage)
    assert torch.equal(form.cluster_features(features, num_clusters, linkage), expected)


@form_and_linkage
def test_images_of_different_kinds_in_one_batch(form, linkage):
    features = torch.cat([features_of(family, 1, 18, 5) for family in FAMILIES])
    for num_clusters in (1, 2, 9, 17, 18):
        expected = naive.cluster_features(features, num_clusters, linkage)
        assert torch.equal(form.cluster_features(features, num_clusters, linkage), expected)


@form_and_linkage
@pytest.mark.parametrize('seed', [7, 26])
def test_an_image_with_copies_and_near_ties(form, linkage, seed):
    """Plain torch begins twice: by rounds without the copies, then with them, one by one."""
    features = features_of(few_levels, seed, 40, 6, torch.float32)
    for num_clusters in (10, 20):
        expected = naive.cluster_features(features, num_clusters, linkage)
        assert torch.equal(form.cluster_features(features, num_clusters, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('family', FAMILIES)
def test_larger_images_are_the_same_in_all_forms(family, linkage):
    features = features_of(family, 7, 300, 24, torch.float32)
    for num_clusters in (1, 30, 150, 299):
        labels = [form.cluster_features(features, num_clusters, linkage) for form in FORMS]
        assert torch.equal(*labels)


@form_and_linkage
@pytest.mark.parametrize('n', [2, 3, 50, 333])
def test_it_equals_scikit_learn_where_heights_differ(form, linkage, n):
    features = features_of(FAMILIES[0], n, n, 16, torch.float32)
    distances = token_distances(fixed_point(features[0])).double().numpy() / 2**FRACTION_BITS
    heights = np.sort(scipy_linkage(squareform(distances), linkage)[:, 2])
    assert (np.diff(heights) > 1e-12).all()
    for num_clusters in {1, 2, n // 4 or 1, n // 2, n - 1, n}:
        expected = sklearn_oracle.cluster_features(features, num_clusters, linkage)
        assert torch.equal(form.cluster_features(features, num_clusters, linkage), expected)


@pytest.fixture(scope='module')
def trained_keys() -> torch.Tensor:
    """Keys of a trained ViT, ``(8, 3, 4200, 64)`` float16; they are not ours to distribute."""
    path = SHARED / 'keys' / 'vit_s14_keys.npz'
    if not path.is_file():
        pytest.skip(f'no keys at {path}')
    return torch.from_numpy(np.load(path)['keys'])


@pytest.mark.slow
@pytest.mark.parametrize('keep_rate', [0.25, 0.5, 0.9])
@pytest.mark.parametrize('linkage', LINKAGES)
def test_trained_keys_equal_scikit_learn_on_float64_distances(linkage, keep_rate, trained_keys):
    features = trained_keys[::3, 0]
    num_clusters = int(keep_rate * features.shape[1])
    expected = sklearn_oracle.cluster_features(features, num_clusters, linkage)
    assert torch.equal(cpp.cluster_features(features, num_clusters, linkage), expected)


@pytest.mark.slow
@pytest.mark.parametrize('linkage', LINKAGES)
def test_a_field_of_noise_at_full_size_equals_scikit_learn(linkage):
    """4,200 tokens down to one cluster: all pairs are needed."""
    features = torch.randn(1, 4200, 64, generator=torch.Generator().manual_seed(1))
    for num_clusters in (1, 1050, 4199):
        expected = sklearn_oracle.cluster_features(features, num_clusters, linkage)
        assert torch.equal(cpp.cluster_features(features, num_clusters, linkage), expected)


@form_and_linkage
@pytest.mark.parametrize('scale', [5e-324, 1e-310, 1e-200, 1e200, 1e307])
def test_features_of_any_magnitude(form, linkage, scale):
    rng = np.random.default_rng(4)
    features = torch.from_numpy(rng.integers(-9, 10, (1, 16, 5)) * scale)
    for num_clusters in (2, 8, 13):
        expected = naive.cluster_features(features, num_clusters, linkage)
        assert torch.equal(form.cluster_features(features, num_clusters, linkage), expected)
