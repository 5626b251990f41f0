"""What tests of kernels share: random tensors, tolerances, comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16
#: Largest relative error of a result in a dtype, its own rounding included; Triton's interpreter
#: cuts bfloat16 off.
TOLERANCE = {F64: 1e-12, F32: 1e-6, F16: 6e-4, BF16: 8e-3}


def drawing() -> Callable[..., Tensor]:
    """Function of a shape: normal numbers in float64, the same in every test."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=F64).to(DEVICE)


def in_double(tensors: Iterable[Tensor | None]) -> list[Tensor | None]:
    return [x if x is None else x.double() for x in tensors]


def assert_close(
    found: Sequence[Tensor | None],
    expected: Sequence[Tensor | None],
    dtypes: Sequence[torch.dtype],
    rounded: torch.dtype | None = None,
) -> None:
    """Results are of these dtypes and agree.

    ``rounded`` is what the inputs of all of them are rounded to, by default the first's dtype.
    """
    least = TOLERANCE[rounded or dtypes[0]]
    for x, y, dtype in zip(found, expected, dtypes, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            assert (x.dtype, x.shape) == (dtype, y.shape)
            error = (x.double() - y.double()).norm() / y.double().norm()
            assert error <= max(TOLERANCE[dtype], least)


def assert_apart(tensors: Iterable[Tensor | None]) -> None:
    """No two share memory: torch refuses such results of an operator, but on a GPU alone."""
    places = [x.untyped_storage().data_ptr() for x in tensors if x is not None]
    assert len(set(places)) == len(places)
