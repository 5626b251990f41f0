"""The check for NaN and Inf that does not make the host wait."""

from __future__ import annotations

import math

import pytest
import torch

from mmdet_atc.clustering import NonFiniteError, finite

LIMIT = torch.finfo(torch.float32).max


class Event:
    """A CUDA event that passes when the test says so."""

    passed = False

    def query(self) -> bool:
        return self.passed

    def record(self) -> None:
        pass


@pytest.fixture
def events(monkeypatch):
    """Lets the device's half of the check run on CPU tensors, with events in the test's hand."""
    made: list[Event] = []

    def new_event() -> Event:
        made.append(Event())
        return made[-1]

    class Nothing:
        def __init__(self, device):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    empty = torch.empty
    monkeypatch.setattr(torch.cuda, 'Event', new_event)
    monkeypatch.setattr(torch.cuda, 'device', Nothing)
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    monkeypatch.setattr(torch, 'empty', lambda *a, pin_memory, **kw: empty(*a, **kw))
    monkeypatch.setattr(finite, '_answers', finite._Answers())
    monkeypatch.delenv(finite.ENVIRONMENT, raising=False)
    return made


def batch(bad: float | None = None) -> torch.Tensor:
    x = torch.rand(3, 4, 5)
    if bad is not None:
        x[1, 2, 3] = bad
    return x


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf, -torch.finfo(torch.float32).max])
def test_at_once_when_asked(events, bad):
    finite.require_finite_on_device(batch(), 'x', LIMIT, True)
    with pytest.raises(NonFiniteError, match=r'x must be finite, but image\(s\) \[1\]'):
        finite.require_finite_on_device(batch(bad), 'x', LIMIT, True)
    assert not events


def test_never_when_asked(events):
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, False)
    assert not events


def test_later_by_default(events):
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(), 'x', LIMIT, None)
    events[0].passed = events[1].passed = True
    with pytest.raises(NonFiniteError, match=r'but image\(s\) \[1\].*earlier call; with MMDET'):
        finite.require_finite_on_device(batch(), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(), 'x', LIMIT, None)


def test_the_environment_decides_where_the_call_does_not(events, monkeypatch):
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


def test_nothing_is_looked_at_while_a_graph_is_captured(events, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, None)
    finite.require_finite_on_device(batch(math.nan), 'x', LIMIT, True)
    assert not events
