"""The kernels of proportional attention, folded norms and pooling compile, without a GPU."""

from __future__ import annotations

import pytest

from ..layers.compiling import compiled_sizes

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
IMPORTS = """
from mmdet_atc.layers import triton_fold, triton_pooling
from mmdet_atc.merging import triton_proportional
"""
CASES = """[
    *(
        (
            kernel,
            dict(
                **dict.fromkeys(
                    ('q', 'k', 'v', 'out', 'grad', 'of_q', 'of_k', 'of_v'), floats
                ),
                **dict.fromkeys(('log_sizes', 'logs', 'inner'), '*fp32'),
                **dict.fromkeys(
                    ('image_stride', 'head_stride', 'token_stride', 'num_tokens'), 'i32'
                ),
                scale='fp32',
            ),
            dict(HEADS=6, HEAD_DIM=64, QUERIES=64, KEYS=64),
            4,
        )
        for floats in ('*fp16', '*bf16', '*fp32')
        for kernel in (
            triton_proportional._attend_kernel,
            triton_proportional._queries_kernel,
            triton_proportional._keys_kernel,
        )
    ),
    *(
        (
            triton_fold._fold_kernel,
            dict(
                **dict.fromkeys(
                    ('weight', 'mean', 'var', 'gain', 'shift', 'conv_bias'), '*fp32'
                ),
                out='*fp16', bias='*fp16', eps='fp32', channels='i32', taps='i32',
            ),
            dict(BLOCK=1024) | absent,
            4,
        )
        for absent in ({}, dict(conv_bias=None), dict(gain=None, shift=None))
    ),
    (
        triton_pooling._pool_kernel,
        dict(
            x='*fp16', out='*fp16',
            **dict.fromkeys(('height', 'width', 'rows', 'cols', 'channels'), 'i32'),
        ),
        dict(CHANNELS=64, COLS=32),
        4,
    ),
]"""


@pytest.mark.slow
def test_the_kernels_compile(tmp_path):
    assert len(compiled_sizes(IMPORTS, CASES, tmp_path)) == 2 * 13
