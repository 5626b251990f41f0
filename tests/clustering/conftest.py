"""Triton's interpreter under numpy >= 2.4."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _interpreter_works_with_numpy(monkeypatch):
    """Triton 3.6 takes ``int()`` of arrays of one element, an error since numpy 2.4 (Triton #9171).

    Without this no kernel with ``range(0, n, BLOCK)`` can be interpreted.
    """
    if np.lib.NumpyVersion(np.__version__) < '2.4.0':
        return
    try:
        from triton.runtime import interpreter
    except ImportError:
        return  # the plain torch form is tested where Triton is not installed, too
    patch = interpreter._patch_lang_tensor

    def patch_with_item(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, '__index__', lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, '_patch_lang_tensor', patch_with_item)
