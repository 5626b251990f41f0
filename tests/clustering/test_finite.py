"""The check for NaN and Inf that does not make the host wait."""

from __future__ import annotations

import math

import pytest
import torch

from mmdet_atc.clustering import NonFiniteError, finite

LIMIT = torch.finfo(torch.float32).max


class Arrival:
    passed = False

    def query(self) -> bool:
        return self.passed


@pytest.fixture
def arrivals(monkeypatch):
    """Answers of CPU tensors arrive when the test says so; all else is as on a device."""
    made: list[Arrival] = []

    def to_host(flags):
        made.append(Arrival())
        return flags, made[-1]

    monkeypatch.setattr(finite, '_to_host', to_host)
    monkeypatch.setattr(finite, '_answers', finite._Answers())
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    monkeypatch.delenv(finite.ENVIRONMENT, raising=False)
    return made


def batch(bad: float | None = None) -> torch.Tensor:
    x = torch.rand(3, 4, 5)
    if bad is not None:
        x[1, 2, 3] = bad
    return x


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf, -torch.finfo(torch.float32).max])
def test_at_once_when_asked(arrivals, bad):
    finite.require_finite_on_device(batch(), 'x', LIMIT, True)
    with pytest.raises(NonFiniteError, match=r'x must be finite, but image\(s\) \[1\]'):
        finite.require_finite_on_device(batch(bad), 'x', LIMIT, True)
    assert not arrivals


def test_never_when_asked(arrivals):
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, False)
    assert not arrivals


def test_later_by_default(arrivals):
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(), 'x', LIMIT, None)
    arrivals[0].passed = arrivals[1].passed = True
    with pytest.raises(NonFiniteError, match=r'but image\(s\) \[1\].*earlier call; with MMDET'):
        finite.require_finite_on_device(batch(), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(), 'x', LIMIT, None)


def test_the_environment_decides_where_the_call_does_not(arrivals, monkeypatch):
    monkeypatch.setenv(finite.ENVIRONMENT, '1')
    with pytest.raises(ValueError, match='must be finite'):
        finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, False)
    monkeypatch.setenv(finite.ENVIRONMENT, '0')
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, None)
    with pytest.raises(ValueError, match='must be finite'):
        finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, True)
    monkeypatch.setenv(finite.ENVIRONMENT, 'yes')
    with pytest.raises(ValueError, match=r"MMDET_ATC_CHECK_FINITE must be 0, 1 or not set, got 'y"):
        finite.require_finite_on_device(batch(), 'x', LIMIT, None)


def test_nothing_is_looked_at_while_a_graph_is_captured(arrivals, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, True)
    assert not arrivals
