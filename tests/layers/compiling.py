"""What only a GPU checks of Triton kernels, checked without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from ..conftest import ROOT

_CODE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

{imports}
cases = {cases}
for architecture in (80, 90):
    for kernel, types, constants, warps in cases:
        signature = {{
            name: 'constexpr' if name in constants else types[name] for name in kernel.arg_names
        }}
        aligned = {{
            (index,): [['tt.divisibility', 16]]
            for index, type in enumerate(signature.values())
            if type[0] == '*'
        }}
        compiled = triton.compile(
            ASTSource(kernel, signature, constants, aligned),
            target=GPUTarget('cuda', architecture, 32),
            options=dict(num_warps=warps),
        )
        print(len(compiled.asm['cubin']))
"""


def assert_apart(tensors: Iterable[Tensor | None]) -> None:
    """No two share memory: torch refuses such results of an operator, but on a GPU alone."""
    places = [x.untyped_storage().data_ptr() for x in tensors if x is not None]
    assert len(set(places)) == len(places)


def compiled_sizes(imports: str, cases: str, cache: Path) -> list[int]:
    """Bytes of the machine code of each kernel for sm_80, then for sm_90.

    Args:
        imports (str): Python statements.
        cases (str): A list of (kernel, types of its arguments, its constants, warps) in Python.
        cache (Path): Folder of Triton's cache.
    """
    output = subprocess.run(
        [sys.executable, '-c', _CODE.format(imports=imports, cases=cases)],
        cwd=ROOT,
        env={**os.environ, 'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    return [int(line) for line in output.stdout.splitlines()]
