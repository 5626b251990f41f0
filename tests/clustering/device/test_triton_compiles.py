"""The kernels compile for GPUs; the interpreter checks no types. Needs no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ...conftest import ROOT

CODE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mmdet_atc.clustering.device import triton_distances, triton_rounds, triton_tree

floats = sys.argv[2]
types = dict.fromkeys(('directions', 'distances'), '*fp32')
types.update(dict.fromkeys(('square', 'height', 'merge_height'), floats))
types.update(dict.fromkeys(('edges', 'lowest', 'limit'), '*i64'))
types.update(dict.fromkeys(('num_tokens', 'num_channels', 'num_merges', 'num_edges'), 'i32'))
types.update(rounds='i32', jumps='i32')
constants = dict(AVERAGE=floats == '*fp64', BLOCK=2048, TILE=64, CHANNELS=32)
modules = (triton_tree,) if floats == '*fp32' else ()
for module in (triton_rounds, triton_distances, *modules):
    for name, kernel in vars(module).items():
        if name.endswith('_kernel'):
            own = {key: value for key, value in constants.items() if key in kernel.arg_names}
            signature = {
                arg: 'constexpr' if arg in own else types.get(arg, '*i32')
                for arg in kernel.arg_names
            }
            warps = 16 if name == '_finish_kernel' else 8
            compiled = triton.compile(
                ASTSource(kernel, signature, own),
                target=GPUTarget('cuda', int(sys.argv[1]), 32),
                options=dict(num_warps=warps, num_stages=1),
            )
            print(name, len(compiled.asm['cubin']) > 0, 'tf32' in compiled.asm['ptx'])
"""


@pytest.mark.slow
@pytest.mark.parametrize('architecture', [75, 80, 90])
@pytest.mark.parametrize('floats', ['*fp32', '*fp64'])
def test_kernels_compile_and_use_no_tf32(architecture, floats, tmp_path):
    output = subprocess.run(
        [sys.executable, '-c', CODE, str(architecture), floats],
        cwd=ROOT,
        env={**os.environ, 'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    lines = [line.split() for line in output.stdout.splitlines()]
    assert len(lines) == (8 if floats == '*fp32' else 5)
    assert all(made == 'True' and tf32 == 'False' for _, made, tf32 in lines)
