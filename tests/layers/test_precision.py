"""Half precision without autocast's casts."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from mmdet_atc.layers import as_half
from mmdet_atc.layers.precision import cast_together, joined


def model():
    parts = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 6)
    return nn.Sequential(*parts).eval()


X = torch.randn(2, 3, 2, 2)


def dtypes(module):
    return [parameter.dtype for parameter in module.parameters()]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_inside_the_block_parameters_are_halves(dtype):
    module = model()
    before = list(module.parameters())
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype):
        expected = module(X)
        with as_half(module, X, keep=[module[3].bias]) as x:
            assert dtypes(module) == [*[dtype] * 2, *[torch.float32] * 2, dtype, torch.float32]
            assert x.dtype == dtype
            assert not torch.is_autocast_enabled('cpu')
            assert torch.equal(module[3].weight, before[4].to(dtype))
        with as_half(module, X) as x:
            found = module(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    assert all(a is b for a, b in zip(module.parameters(), before, strict=True))


def test_an_error_inside_leaves_the_parameters():
    module = model()
    before = list(module.parameters())
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        with pytest.raises(RuntimeError, match='inside'), as_half(module, X):
            raise RuntimeError('inside')
        with as_half(module, X):  # and the next call finds the lock free
            assert torch.bfloat16 in dtypes(module)
    assert all(a is b for a, b in zip(module.parameters(), before, strict=True))


def test_without_autocast_or_in_training_nothing_happens():
    module = model()
    with torch.no_grad(), as_half(module, X) as x:
        assert x is X
        assert set(dtypes(module)) == {torch.float32}
    with torch.autocast('cpu', dtype=torch.bfloat16), as_half(module, X) as x:
        assert x is X
        assert set(dtypes(module)) == {torch.float32}


def test_another_thread_meanwhile_goes_autocasts_way():
    module = model()
    outputs = []

    def run():
        with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16), as_half(module, X) as x:
            outputs.append(module(x))

    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16), as_half(module, X) as x:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        module(x)
    assert outputs[0].dtype == torch.bfloat16
    assert set(dtypes(module)) == {torch.float32}


@pytest.mark.parametrize('change', ['in place', 'load', 'assign', 'step', 'swap'])
def test_nothing_is_kept_of_parameters(change):
    """EMA swaps and optimizers write in place; others put new tensors."""
    module, other = model(), model()
    fresh = copy.deepcopy(other)

    def run(module):
        with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16), as_half(module, X) as x:
            return module(x)

    run(module)
    if change == 'in place':
        for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
            ours.data.copy_(theirs.data)
    elif change == 'swap':
        for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
            ours.data, theirs.data = theirs.data, ours.data
    elif change == 'step':
        module(X).sum().backward()
        torch.optim.SGD(module.parameters(), 1.0).step()
        fresh = copy.deepcopy(module)
    else:
        module.load_state_dict(other.state_dict(), assign=change == 'assign')
    assert torch.equal(run(module), run(fresh))


def test_what_is_cast_together_can_be_joined_without_a_copy():
    tensors = [torch.randn(3, 8), torch.randn(2, 8), torch.randn(5)]
    copies = cast_together(tensors, torch.float16)
    for copied, tensor in zip(copies, tensors, strict=True):
        assert torch.equal(copied, tensor.half())
    assert torch.equal(joined(copies[:2]), torch.cat(tensors[:2]).half())
    assert joined(copies[:2]).data_ptr() == copies[0].data_ptr()
    assert torch.equal(joined(tensors[:2]), torch.cat(tensors[:2]))
    assert torch.equal(joined([copies[0], copies[0]]), torch.cat([copies[0], copies[0]]))
