"""``torch.compile`` takes whole backbones as one graph."""

from __future__ import annotations

import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from .micro import micro

ATC = dict(linkage='average', keep_rate=0.5)
#: The graphs as they are traced; what a compiler makes of them is not ours.
BACKEND = 'eager'
_ONE_GRAPH = pytest.mark.xfail(
    torch.__version__ < '2.7', reason='torch 2.6 compiles anew for each size', strict=True
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    # pytest would keep the many megabytes that the compiler logs of every trace.
    monkeypatch.setattr(logging.getLogger('torch.__trace'), 'disabled', True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@torch.no_grad()
def assert_equal(compiled, model, image) -> None:
    for found, expected in zip(compiled(image), model(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@_ONE_GRAPH
@pytest.mark.parametrize('merging', [None, ATC], ids=['dense', 'atc'])
def test_sizes_share_one_graph(merging):
    model = micro(merging).eval()
    counter = CompileCounterWithBackend(BACKEND)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for size in ((64, 96), (96, 128), (128, 64)):
        assert_equal(compiled, model, torch.randn(2, 3, *size))
        counts.append(counter.frame_count)
    assert counts[0] == counts[-1]


@pytest.mark.parametrize('merger', ['BipartiteMerging', 'TopKMerging'])
def test_other_mergers_are_one_graph_per_size(merger):
    model = micro(dict(type=merger, keep_rate=0.5)).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=BACKEND)
    assert_equal(compiled, model, torch.randn(2, 3, 64, 96))


@pytest.mark.parametrize('with_cp', [False, True])
def test_training_is_one_graph(with_cp):
    model = micro(ATC, with_cp=with_cp).train()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')  # gradients too
    image = torch.randn(2, 3, 64, 96)
    gradients = []
    for call in (model, compiled):
        model.zero_grad()
        sum(out.square().mean() for out in call(image)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    expected, found = gradients
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_padding_aware_merging_breaks_the_graph_but_not_the_result():
    """How many tokens an image has left depends on its padding."""
    model = micro(ATC, padding_aware=True).eval()
    image, sizes = torch.randn(1, 3, 64, 96), [(64, 64)]
    compiled = torch.compile(model, backend=BACKEND)
    assert_equal(lambda image: compiled(image, sizes), lambda image: model(image, sizes), image)


@_ONE_GRAPH
def test_the_switch_compiles_nothing_anew_for_further_sizes():
    counter = CompileCounterWithBackend(BACKEND)
    options = dict(depth=2, interaction_indexes=[[0, 0], [1, 1]], merge_blocks=(1,))
    model = micro(ATC, **options, compile=dict(mode='default', backend=counter))
    plain = micro(ATC, **options)
    plain.load_state_dict(model.state_dict())
    for training in (False, True):
        counts = []
        for size in ((96, 128), (128, 96), (96, 224)):
            image = torch.randn(2, 3, *size)
            with torch.set_grad_enabled(training):
                found, expected = model.train(training)(image), plain.train(training)(image)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            counts.append(counter.frame_count)
        assert counts[0] == counts[-1], counts
    with pytest.raises(ValueError, match='multiples of 32, got 100x128'):
        model(torch.randn(2, 3, 100, 128))


@_ONE_GRAPH
def test_the_switch_leaves_the_compiler_no_roundings_of_sizes():
    """It simplifies sums and products of them for longer than anybody waits."""
    shapes = []

    def seen(graph, inputs):
        values = [node.meta.get('example_value') for node in graph.graph.nodes]
        shapes.extend(str(x.shape) for x in values if isinstance(x, torch.Tensor))
        return graph.forward

    micro(ATC, compile=dict(mode='default', backend=seen)).eval()(torch.randn(2, 3, 96, 128))
    assert any('16*s' in shape for shape in shapes)
    assert not [shape for shape in shapes if '//' in shape]
