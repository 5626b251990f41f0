"""What tools take on the command line."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from mmdet_atc.engine import faults_in_one_line, positive_int, usable_device


@pytest.mark.parametrize('text', ['0', '-3', '1.5', 'two', ''])
def test_what_is_no_positive_number_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f'at least 1, got {text!r}'):
        positive_int(text)


def test_a_positive_number_is_taken():
    assert positive_int('12') == 12


@pytest.mark.parametrize('text', ['gpu', 'cuda:99'])
def test_a_device_that_is_not_there_is_refused(text):
    with pytest.raises(
        argparse.ArgumentTypeError, match=f"'{text}' cannot be used here: "
    ) as error:
        usable_device(text)
    assert '\n' not in str(error.value)


def test_a_device_that_is_there_is_taken():
    assert usable_device('cpu') == torch.device('cpu')


def test_an_interrupted_run_says_how_it_goes_on():
    with (
        pytest.raises(SystemExit, match=r'error: interrupted; .*--resume'),
        faults_in_one_line(),
    ):
        raise KeyboardInterrupt


def test_below_torchrun_a_fault_is_reported_and_not_printed(tmp_path, monkeypatch):
    """It reports the first of those of all processes."""
    report = tmp_path / 'error.json'
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(report))
    with pytest.raises(SystemExit) as end, faults_in_one_line():
        raise FileNotFoundError('no such file')
    assert end.value.code == 1
    assert json.loads(report.read_text())['message'] == 'error: no such file'
