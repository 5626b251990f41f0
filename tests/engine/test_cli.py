"""What tools take on the command line."""

from __future__ import annotations

import argparse

import pytest
import torch

from mmdet_atc.engine import positive_int, usable_device


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
