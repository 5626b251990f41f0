"""A batch norm in the convolution before it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmdet_atc.layers.conv_norm import ConvNormSequential, folded_plain
from mmdet_atc.studies.speed.memory import memory_in_use

CPU = torch.device('cpu')


def _convolution(channels: int) -> ConvNormSequential:
    torch.manual_seed(0)
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return ConvNormSequential(convolution, norm, nn.ReLU()).eval()


def test_a_folded_batch_norm_changes_nothing():
    modules = _convolution(8)
    x = torch.randn(2, 8, 9, 7)
    with torch.no_grad():
        folded = modules(x)
    torch.testing.assert_close(folded, modules(x))


@pytest.mark.skipif(memory_in_use(CPU) is None, reason='needs Linux /proc')
def test_one_autocast_block_over_many_images_keeps_nothing():
    """Autocast keeps a copy of every parameter that it meets until its outermost block ends."""
    modules = _convolution(512)  # 9 MiB, in half precision half of it
    x = torch.randn(1, 512, 1, 1)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        modules(x)
        before = memory_in_use(CPU)
        for _ in range(16):
            modules(x)
        after = memory_in_use(CPU)
    assert before is not None
    assert after is not None
    assert after - before < 30


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_the_triton_form_folds_alike(with_bias, affine, dtype):
    pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
    from mmdet_atc.layers.triton_fold import folded

    conv = nn.Conv2d(40, 24, 3, bias=with_bias)
    norm = nn.BatchNorm2d(24, affine=affine).eval()
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    tensors = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    arguments = (*(x if x is None else x.detach() for x in tensors), norm.eps, dtype)
    for found, expected in zip(folded(*arguments), folded_plain(*arguments)):
        torch.testing.assert_close(found, expected)
