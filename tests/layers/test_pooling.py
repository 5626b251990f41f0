"""Max pooling of the stem, the GPU's kernel in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmdet_atc.layers import pooling


@pytest.mark.parametrize('shape', [(2, 24, 9, 70), (1, 64, 8, 6), (3, 16, 1, 1)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_the_kernel_finds_the_largest(shape, dtype, monkeypatch):
    pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
    monkeypatch.setattr(pooling, 'can_run_triton', lambda x: True)
    from mmdet_atc.layers.triton_pooling import max_pool

    pooling._max_pool.register_kernel('cpu')(max_pool)
    x = torch.randn(shape, dtype=dtype).to(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = float('nan')
    x[-1, 1] = float('-inf')
    with torch.no_grad():
        found = pooling.StemMaxPool()(x)
    torch.testing.assert_close(found, F.max_pool2d(x, 3, 2, 1), rtol=0, atol=0, equal_nan=True)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = torch._subclasses.FakeTensorMode().from_tensor(x)
    with torch.no_grad():
        fake = pooling.StemMaxPool()(expected)
    assert (fake.shape, fake.stride()) == (found.shape, found.stride())
