"""Triton's interpreter under numpy >= 2.4, as for the kernels of clustering."""

from ..clustering.conftest import _interpreter_works_with_numpy

__all__ = ['_interpreter_works_with_numpy']
