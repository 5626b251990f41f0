"""What decides whether Triton's kernels run on a device."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mmdet_atc.clustering.device import engine, self_check

triton_rounds = pytest.importorskip(
    'mmdet_atc.clustering.device.triton_rounds', reason='Triton is not installed'
)
from mmdet_atc.clustering.device import triton_distances, triton_tree  # noqa: E402

DEVICE = torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')


def test_right_kernels_pass():
    assert self_check.differences(DEVICE, sizes=(2, 9)) == []


@pytest.mark.parametrize(
    ('module', 'name', 'reported'),
    [
        (triton_rounds, 'round_labels', {'complete', 'average'}),
        (triton_tree, 'tree_labels', {'single'}),
    ],
)
def test_a_wrong_partition_is_found(module, name, reported, monkeypatch):
    right = getattr(module, name)

    def wrong(*args):
        labels = right(*args)
        labels[-1, -1] = 0
        return labels

    monkeypatch.setattr(module, name, wrong)
    found = self_check.differences(DEVICE, sizes=(9,))
    assert {line.split()[0] for line in found} == reported
    assert all('9 tokens' in line for line in found)


def test_products_in_tf32_are_found(monkeypatch):
    right = triton_distances.cosine_square

    def rounded(directions, dtype):
        return right((directions * 2**11).round() / 2**11, dtype)

    monkeypatch.setattr(triton_distances, 'cosine_square', rounded)
    assert self_check.differences(DEVICE, sizes=(9,)) == ['distances of 9 tokens']


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Gives the child other code to run, and the check an empty cache and a device's name."""
    monkeypatch.setenv('MMDET_ATC_CACHE', str(tmp_path))
    monkeypatch.setattr(self_check, '_fingerprint', lambda device: 'this')
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'a GPU')

    def runs(code: str) -> None:
        monkeypatch.setattr(self_check, 'COMMAND', (sys.executable, '-c', code))

    return runs


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        ('import os; os.abort()', 'exit status -6'),
        ('raise RuntimeError("no cubin")', 'RuntimeError: no cubin'),
        ('import time; time.sleep(60)', 'no end after 1 s'),
    ],
    ids=['crash', 'error', 'hang'],
)
def test_a_failing_child_is_a_reason_and_is_not_remembered(code, reason, child, monkeypatch):
    monkeypatch.setattr(self_check, 'TIMEOUT_SECONDS', 1.0 if 'sleep' in code else 60.0)
    child(code)
    assert reason in self_check.reason_against(torch.device('cuda:0'))
    child('')
    assert self_check.reason_against(torch.device('cuda:0')) == ''


def test_a_pass_is_remembered(child):
    child('import sys; assert sys.argv[1:] == ["cuda:0"]')
    assert self_check.reason_against(torch.device('cuda:0')) == ''
    child('raise RuntimeError("asked again")')
    assert self_check.reason_against(torch.device('cuda:0')) == ''


def test_a_cache_that_cannot_be_written_is_no_fault(child, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MMDET_ATC_CACHE', str(tmp_path / 'file'))
    child('')
    assert self_check.reason_against(torch.device('cuda:0')) == ''


def test_the_child_s_own_command(tmp_path):
    """From another folder, on a device that does not exist: one line says so, nothing is raised."""
    code = (
        'import torch\n'
        'from mmdet_atc.clustering.device import self_check\n'
        'print(self_check._reason_of_child(torch.device("cuda:77")))'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith('Triton kernels failed their check (')
    assert 'CUDA' in result.stdout or 'NVIDIA' in result.stdout
    assert result.stdout.count('\n') == 1


@pytest.mark.parametrize(
    ('choice', 'reason', 'expected'),
    [(None, '', True), (None, 'differ', False), ('1', 'differ', True), ('0', '', False)],
)
def test_the_environment_decides(choice, reason, expected, monkeypatch):
    engine._kernels_work.cache_clear()
    monkeypatch.delenv(engine.ENVIRONMENT, raising=False)
    if choice is not None:
        monkeypatch.setenv(engine.ENVIRONMENT, choice)
    monkeypatch.setattr(engine, 'reason_against', lambda device: reason)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    device = torch.device('cuda:0')
    if choice is None and reason:
        with pytest.warns(UserWarning, match='differ: clustering on cuda:0 runs as plain torch'):
            assert engine.use_triton(device, 100) is expected
    else:
        assert engine.use_triton(device, 100) is expected
    engine._kernels_work.cache_clear()
