"""Configs of MMDetection and MMSegmentation, which ours build on, are found quickly."""

from __future__ import annotations

import functools

import mmengine.config.utils
import pytest


@pytest.fixture(scope='session', autouse=True)
def _metafiles_are_read_once():
    """MMEngine reads all of a package's YAML files, in a second or two, for each name in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmengine.config.utils, 'load', functools.cache(mmengine.config.utils.load))
        yield
