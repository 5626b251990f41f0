"""What CUDA graphs of a backbone see of changes; the graphs are played by recordings on the CPU.

A recording runs the model on the tensors that were its parameters when it was made, as a graph
reads the memory that was theirs.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmdet_atc.backbones import SViTAdapter, ViTAdapter, captured
from mmdet_atc.backbones.captured import CapturedForward, _Graph

from .micro import MICRO, micro

GRAPHS = dict(mode='reduce-overhead')
ATC = dict(linkage='average', keep_rate=0.5)
IMAGE = torch.randn(1, 3, 64, 96)


@pytest.fixture
def recordings(monkeypatch):
    """The sizes of images that were recorded."""
    made = []

    def record(self, run, image, reads):
        made.append(tuple(image.shape[-2:]))
        places = [
            (owner.__dict__[kind], name, tensor.detach())
            for owner in self.module.modules()
            for kind in ('_parameters', '_buffers')
            for name, tensor in owner.__dict__[kind].items()
            if tensor is not None
        ]
        static = image.clone()
        outputs = run(static)

        def replay():
            now = [(where, name, where[name]) for where, name, _ in places]
            for where, name, then in places:
                where[name] = then
            for output, fresh in zip(outputs, run(static), strict=True):
                output.copy_(fresh)
            for where, name, tensor in now:
                where[name] = tensor

        return _Graph(replay, static, outputs, (reads, self.constants(image)))

    monkeypatch.setattr(CapturedForward, '_has_graphs', lambda self, image: True)
    monkeypatch.setattr(CapturedForward, '_captured', record)
    return made


def pair(merging=ATC, **options):
    """A model with graphs, and one without on the same parameters."""
    model = micro(merging, merge_blocks=(3, 6, 9), compile=GRAPHS | options).eval()
    return model, copy.deepcopy(model)


@torch.no_grad()
def assert_same(model, twin, image=IMAGE):
    twin.load_state_dict(model.state_dict())
    twin.captured = None
    for found, expected in zip(model(image), twin(image), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_size_is_recorded_in_its_second_call(recordings):
    model, twin = pair()
    for size in ((64, 96), (64, 96), (96, 64), (64, 96), (96, 64), (96, 64)):
        assert_same(model, twin, torch.randn(1, 3, *size))
    assert recordings == [(64, 96), (96, 64)]


def test_the_sizes_used_last_are_kept(recordings):
    model, twin = pair(sizes=2)
    for width in (64, 64, 96, 96, 64, 128, 128, 64, 96, 96):
        assert_same(model, twin, torch.randn(1, 3, 32, width))
    assert [width for _, width in recordings] == [64, 96, 128, 96]
    assert len(model.captured._graphs) == 2


def test_results_are_not_written_to_by_the_next_call(recordings):
    model, _ = pair()
    with torch.no_grad():
        model(IMAGE)
        first = model(IMAGE)
        kept = [feature.clone() for feature in first]
        model(torch.randn_like(IMAGE))
    assert all(map(torch.equal, first, kept))


@pytest.mark.parametrize('change', ['in place', 'load', 'assign', 'step', 'ema swap', 'dtype'])
def test_a_change_of_parameters_is_seen(recordings, change):
    model, twin = pair()
    image = IMAGE
    assert_same(model, twin)
    assert_same(model, twin)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*other.parameters(), other.norm1.running_mean):
            tensor.add_(0.05 * torch.randn_like(tensor))
    if change == 'in place':
        model.pos_embed.data.mul_(2)
    elif change == 'ema swap':  # mmengine's EMAHook
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            kept = ours.data.clone()
            ours.data.copy_(theirs.data)
            theirs.data.copy_(kept)
    elif change == 'step':
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        sum(feature.square().mean() for feature in model(image)).backward()
        optimizer.step()
    elif change == 'dtype':
        model, twin, image = model.double(), twin.double(), image.double()
    else:
        model.load_state_dict(other.state_dict(), assign=change == 'assign')
    for _ in range(3):
        assert_same(model, twin, image)
    # A replay reads what is written in place; what lies elsewhere is recorded anew.
    assert len(recordings) == (2 if change in ('assign', 'dtype') else 1)


def test_a_change_of_the_merger_is_seen(recordings):
    model, twin = pair()
    for merging in (ATC, dict(type='BipartiteMerging', keep_rate=0.7), None):
        for each in (model, twin):
            each.set_merging(merging)
        for _ in range(3):
            assert_same(model, twin)
    model.set_merging(ATC)
    twin.set_merging(dict(ATC, linkage='single'))
    model.merger.linkage = 'single'
    for _ in range(3):
        assert_same(model, twin)


def test_training_gradients_hooks_and_known_padding_go_without(recordings):
    model, _ = pair()
    model.padding_aware = True
    for _ in range(3):
        model(IMAGE)[0].sum().backward()
    with torch.no_grad():
        for _ in range(3):
            model(IMAGE, [(64, 50)])
        model.spm.train()
        for _ in range(3):
            model(IMAGE)
        model.spm.eval()
        seen = []
        handle = model.blocks[0].register_forward_hook(lambda *_: seen.append(1))
        for _ in range(3):
            model(IMAGE)
        assert len(seen) == 3
        assert recordings == []
        handle.remove()
        model(IMAGE)
        model(IMAGE)
    assert len(recordings) == 1


def test_a_capture_that_fails_is_said_once(recordings, monkeypatch):
    def fail(self, run, image, reads):
        raise RuntimeError('operation not permitted when stream is capturing')

    monkeypatch.setattr(CapturedForward, '_captured', fail)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
    model, twin = pair()
    assert_same(model, twin)
    with pytest.warns(UserWarning, match='without CUDA graphs.*not permitted'):
        assert_same(model, twin)
    assert_same(model, twin)


def test_on_the_cpu_nothing_is_captured():
    model, twin = pair()
    for _ in range(3):
        assert_same(model, twin)
    assert not model.captured._graphs


@pytest.mark.parametrize('dynamic', [False, None])
def test_other_modes_are_torch_compiles(monkeypatch, dynamic):
    asked = []
    monkeypatch.setattr(nn.Module, 'compile', lambda self, **options: asked.append(options))
    micro(compile=dict(mode='max-autotune', dynamic=dynamic))
    assert asked == [dict(mode='max-autotune', dynamic=dynamic)]


@pytest.mark.parametrize('options', [None, GRAPHS])
def test_another_mode_ends_the_one_before(options):
    model = micro(compile=dict(mode='default')).eval()
    compiled = model._compiled_call_impl = pytest.fail  # what torch calls instead of the module
    with pytest.raises(ValueError, match='mode must be'):
        model.set_compile(dict(mode='fast'))
    assert model._compiled_call_impl is compiled
    model.set_compile(options)
    model(torch.rand(1, 3, 64, 64))


def test_graphs_of_what_has_no_fixed_size_are_refused():
    with pytest.raises(ValueError, match=r"must not be 'reduce-overhead' for SViTAdapter"):
        SViTAdapter(compile=GRAPHS, **MICRO)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (True, 'compile must be a dict such as'),
        (dict(), 'compile must be a dict such as'),
        (dict(mode='fast'), "compile's mode must be one of .* got 'fast'"),
        (dict(mode='reduce-overhead', sizes=0), 'compile.sizes must be a positive integer, got 0'),
        (dict(mode='reduce-overhead', dynamic=True), "takes sizes only, got {'dynamic': True}"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ViTAdapter(compile=options, **MICRO)
    assert captured.compiled_forward(nn.Module(), lambda image: None, None) is None
