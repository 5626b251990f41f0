"""Half precision without autocast's casts."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from mmdet_atc.layers import as_half, precision
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


def test_without_autocast_nothing_happens():
    module = model()
    for with_gradients in (False, True):
        with torch.set_grad_enabled(with_gradients), as_half(module, X) as x:
            assert x is X
            assert set(dtypes(module)) == {torch.float32}


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_in_training_gradients_are_autocasts_to_the_bit(dtype, monkeypatch):
    monkeypatch.setattr(precision, '_TOGETHER', 3)
    module = nn.Sequential(*model(), nn.Linear(6, 6), nn.Linear(6, 2)).train()
    module[4].weight.requires_grad_(False)
    module.append(nn.Linear(2, 2))  # no part of the loss
    before = list(module.parameters())

    def gradients(run):
        module.zero_grad()
        with torch.autocast('cpu', dtype=dtype):
            run(X).float().square().sum().backward()
        return [None if x.grad is None else x.grad.clone() for x in module.parameters()]

    def ours(x):
        with as_half(module, x) as x:
            weights = module[3].weight, module[4].weight, module[0].weight
            assert [x.dtype for x in weights] == [dtype, dtype, torch.float32]
            assert [x.requires_grad for x in weights] == [True, False, True]
            return module[:6](x)

    expected, found = gradients(module[:6]), gradients(ours)
    assert all(a is b for a, b in zip(module.parameters(), before, strict=True))
    for x, y in zip(found, expected, strict=True):
        assert (x is None and y is None) or torch.equal(x, y)


def test_what_is_computed_again_goes_autocasts_way():
    module = model()
    module.with_cp = True
    with torch.autocast('cpu', dtype=torch.bfloat16), as_half(module, X):
        assert set(dtypes(module)) == {torch.float32}


def test_joined_layers_get_their_own_gradients():
    parts = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 2)])
    x = torch.randn(4, 8)
    with torch.autocast('cpu', dtype=torch.bfloat16), as_half(parts, x):
        weight = joined([part.weight for part in parts])
        weight.float().square().sum().backward()
    for part in parts:
        torch.testing.assert_close(part.weight.grad, 2 * part.weight.bfloat16().float())


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
    with torch.no_grad():
        assert joined(copies[:2]).data_ptr() == copies[0].data_ptr()
    assert torch.equal(joined(tensors[:2]), torch.cat(tensors[:2]))
    assert torch.equal(joined([copies[0], copies[0]]), torch.cat([copies[0], copies[0]]))
