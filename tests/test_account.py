"""A user without an account: ``docker run -u``, Kubernetes, OpenShift."""

from __future__ import annotations

import getpass
import os
import pathlib
import pwd

import pytest

from mmdet_atc.account import stand_in_for_account

NAMES = ('LOGNAME', 'USER', 'LNAME', 'USERNAME')


@pytest.fixture
def no_account(monkeypatch):
    def unknown(uid):
        raise KeyError(f'getpwuid(): uid not found: {uid}')

    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    for name in (*NAMES, 'HOME'):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_number_without_account_has_a_name_and_a_home(no_account):
    stand_in_for_account()
    assert getpass.getuser() == f'uid{os.getuid()}'
    assert pathlib.Path.home() == pathlib.Path('/')


@pytest.mark.parametrize('name', NAMES)
def test_what_the_environment_says_stays(no_account, name, tmp_path):
    no_account.setenv(name, 'somebody')
    no_account.setenv('HOME', str(tmp_path))
    stand_in_for_account()
    assert getpass.getuser() == 'somebody'
    assert pathlib.Path.home() == tmp_path


def test_an_account_is_left_alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    stand_in_for_account()
    assert dict(os.environ) == before
