"""mmcv's GPU operator as one that torch can trace.

Where there is no GPU its two kernels are played by mmcv's form in plain torch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from mmcv.ops import multi_scale_deform_attn as mmcv_attention
from torch import Tensor

from mmdet_atc.layers import deformable_device
from mmdet_atc.layers.deformable_device import sample_on_device

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SHAPES = ((4, 6), (2, 3))


def _forward(value, shapes, starts, locations, weights, im2col_step) -> Tensor:
    assert starts.tolist() == [0, 24]
    assert len(value) % im2col_step == 0
    levels = [tuple(shape) for shape in shapes.tolist()]
    return mmcv_attention.multi_scale_deformable_attn_pytorch(value, levels, locations, weights)


def _backward(value, shapes, starts, locations, weights, grad, *grads, im2col_step) -> None:
    def differentiate() -> tuple[Tensor, ...]:
        inputs = [x.detach().requires_grad_() for x in (value, locations, weights)]
        out = _forward(inputs[0], shapes, starts, *inputs[1:], im2col_step)
        return torch.autograd.grad(out, inputs, grad)

    # Inside an operator autograd is off; in another thread it is not.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(differentiate).result()
    for into, gradient in zip(grads, found, strict=True):
        into.add_(gradient)


@pytest.fixture(autouse=True)
def _kernels(monkeypatch):
    if DEVICE == 'cpu':
        kernels = SimpleNamespace(
            ms_deform_attn_forward=_forward, ms_deform_attn_backward=_backward
        )
        monkeypatch.setattr(mmcv_attention, 'ext_module', kernels)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def arguments(batch: int, num_queries: int = 5) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(batch)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(DEVICE).requires_grad_()

    shapes, starts = (torch.tensor(x, device=DEVICE) for x in (SHAPES, (0, 24)))
    locations = rand(batch, num_queries, 2, 2, 3, 2)
    return rand(batch, 30, 2, 4), shapes, starts, locations, rand(batch, num_queries, 2, 2, 3)


def results(sample, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    out = sample(*inputs)
    floats = [x for x in inputs if x.is_floating_point()]
    return [out, *torch.autograd.grad(out.sin().sum(), floats)]


def test_the_operator_keeps_torch_s_rules():
    torch.library.opcheck(deformable_device._sample, arguments(2))


def test_compiled_it_is_one_graph_for_all_sizes():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(sample_on_device, fullgraph=True, dynamic=True, backend=count)
    for batch, num_queries in ((6, 5), (3, 7)):  # sizes that are equal would count as one
        inputs = arguments(batch, num_queries)
        torch.testing.assert_close(compiled(*inputs), sample_on_device(*inputs))
    assert len(graphs) == 1


def test_compiled_it_has_the_gradients_of_mmcv_s():
    compiled = torch.compile(sample_on_device, fullgraph=True, backend='aot_eager')
    inputs = arguments(3)
    torch.testing.assert_close(results(compiled, inputs), results(sample_on_device, inputs))
