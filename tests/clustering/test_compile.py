"""Under ``torch.compile`` and ``torch.export`` clustering is one operator, not a graph break."""

from __future__ import annotations

import math

import pytest
import torch

from mmdet_atc.clustering import agglomerative_clustering, linkage_clustering

from .families import LINKAGES


@pytest.fixture(autouse=True)
def _gradients_stay_on():
    """An error inside compiled ``torch.no_grad`` leaves torch 2.11 without gradients."""
    yield
    torch.set_grad_enabled(True)


def merge_means(features: torch.Tensor, linkage: str) -> torch.Tensor:
    """A model around the clustering: mean feature per cluster, differentiable."""
    features = features * 2
    labels = agglomerative_clustering(features, features.shape[1] // 2, linkage)
    index = labels[..., None].expand_as(features)
    return torch.zeros_like(features).scatter_reduce(1, index, features, 'mean', include_self=False)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.parametrize('linkage', LINKAGES)
def test_compiled_model_has_no_graph_break_and_equal_values(linkage):
    features = torch.randn(2, 30, 8)
    compiled = torch.compile(merge_means, fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(features, linkage), merge_means(features, linkage))


def test_gradients_flow_around_the_operator():
    features = torch.randn(2, 30, 8, requires_grad=True)
    (expected,) = torch.autograd.grad(merge_means(features, 'average').square().sum(), features)
    compiled = torch.compile(merge_means, fullgraph=True, backend='aot_eager')
    (grad,) = torch.autograd.grad(compiled(features, 'average').square().sum(), features)
    assert torch.equal(grad, expected)


def test_one_graph_serves_several_sizes():
    compiled = torch.compile(merge_means, fullgraph=True, backend='eager', dynamic=True)
    for num_tokens in (30, 41, 56):
        features = torch.randn(2, num_tokens, 8)
        assert torch.equal(compiled(features, 'average'), merge_means(features, 'average'))


def test_given_distances_compile_too():
    distances = torch.rand(2, 20, 20)
    distances = distances + distances.mT
    compiled = torch.compile(linkage_clustering, fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(distances, 7), linkage_clustering(distances, 7))


def test_compiled_code_still_refuses_nan_and_bad_arguments():
    compiled = torch.compile(agglomerative_clustering, fullgraph=True, backend='aot_eager')
    features = torch.rand(2, 6, 4)
    compiled(features, 3)
    features[1, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r'image\(s\) \[1\]'):
        compiled(features, 3)


def test_export_keeps_one_node():
    class Model(torch.nn.Module):
        def forward(self, features):
            return agglomerative_clustering(features, 5)

    features = torch.randn(2, 12, 4)
    program = torch.export.export(Model(), (features,))
    # The operator runs without gradients: export puts it into a graph of its own.
    graphs = [m.graph for m in program.graph_module.modules() if hasattr(m, 'graph')]
    targets = [str(node.target) for graph in graphs for node in graph.nodes]
    assert targets.count('mmdet_atc.agglomerative_clustering.default') == 1
    assert torch.equal(program.module()(features), agglomerative_clustering(features, 5))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('requires_grad', [False, True])
def test_operators_are_registered_soundly(dtype, requires_grad):
    x = torch.rand(2, 9, 9).to(dtype)
    x = (x + x.mT).requires_grad_(requires_grad)
    for operator in (
        torch.ops.mmdet_atc.agglomerative_clustering,
        torch.ops.mmdet_atc.linkage_clustering,
    ):
        torch.library.opcheck(operator, (x, 4, 'average', 'auto', None))
