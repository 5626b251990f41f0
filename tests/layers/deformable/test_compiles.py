"""The kernels compile for GPUs. Needs no GPU."""

from __future__ import annotations

import pytest

from ..compiling import compiled_sizes

pytest.importorskip('triton', minversion='3.5', reason='Triton is not installed')
CASES = """[
    (
        kernel,
        dict(
            **dict.fromkeys(('value', 'projections', 'out', 'grad', 'grad_projections'), floats),
            **dict.fromkeys(('reference', 'grad_value'), '*fp32'),
            shapes=('i32',) * (2 * levels), num_queries='i32', num_values='i32',
        ),
        dict(HEADS=6, CHANNELS=channels, LEVELS=levels, POINTS=2, BLOCK_QUERIES=16,
             BLOCK_CHANNELS=64),
        4,
    )
    for kernel in (form._deform_kernel, form._deform_backward_kernel)
    for floats, levels, channels in (('*fp16', 1, 64), ('*fp32', 2, 48))
]"""


@pytest.mark.slow
def test_the_kernels_compile(tmp_path):
    imports = 'from mmdet_atc.layers.deformable import triton as form'
    assert len(compiled_sizes(imports, CASES, tmp_path)) == 2 * 2 * 2
