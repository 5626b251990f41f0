"""Compiles the package's kernels for two GPUs, launched as there but on tensors without memory.

A program of its own, for Triton must not interpret: ``TRITON_INTERPRET=0 python -m
tests.compile_kernels``. It needs no GPU, and prints the kernels' names and bytes of shared memory.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import mmdet_atc.ops  # noqa: F401
from mmdet_atc.clustering.forms.triton import engine
from mmdet_atc.layers import triton_fold, triton_pooling
from mmdet_atc.layers.deformable import triton as deformable
from mmdet_atc.layers.depthwise import triton as depthwise
from mmdet_atc.layers.norm import triton as norm
from mmdet_atc.layers.resize import triton as resize
from mmdet_atc.merging import triton_proportional, triton_segments

F32, F16, BF16, I64 = torch.float32, torch.float16, torch.bfloat16, torch.int64
EPS = 1e-6


class Gpu:
    """What Triton asks a driver before it compiles."""

    architecture = 80

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self.architecture, 32)

    def get_current_device(self) -> int:
        return self.architecture

    def get_current_stream(self, device: int) -> int:
        return 0


def empty(*shape: int, dtype: torch.dtype = F32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device='meta')


def half(*shape: int) -> Tensor:
    return empty(*shape, dtype=F16)


def launch_all() -> None:
    """As a detector of size S does, in half precision for the most part."""
    for dtype, levels, channels in ((F16, 1, 64), (F32, 2, 48)):
        values, shapes = empty(1, 24 * levels, 6, channels, dtype=dtype), [4, 6] * levels
        projections, grad = (empty(1, 40, n, dtype=dtype) for n in (36 * levels, 6 * channels))
        tensors = values, projections, empty(40, 2)
        deformable.forward(*tensors, shapes)
        deformable.backward(*tensors, grad, shapes)

    x, shapes = half(2, 70, 96), [6, 8, 4, 5, 1, 2]
    depthwise.backward(x, empty(96, 1, 3, 3), empty(96), x, shapes)
    depthwise.forward(x, empty(96, 1, 3, 3), empty(96), shapes)

    x, branch, scale, keep = empty(2, 9, 384), half(2, 9, 384), empty(384), empty(2)
    for parts, grad in (((branch, scale, keep), x), ((None, None, None), None)):
        norm.forward(x, *parts, scale, scale, EPS, F16)
        norm.backward(x, *parts, scale, EPS, grad, branch, None if grad is None else F16)

    x, feature, quads, of_norm = half(2, 96, 384), empty(2, 6, 384), half(2, 24, 1536), (scale,) * 4
    resize.forward(x, feature, [8, 12], [2, 3], quads, of_norm, EPS, F16)
    resize.forward(x, None, [8, 12], [2, 3], None, None, EPS, F16)
    resize.backward(x, [8, 12], [2, 3], F32)

    tokens, labels = half(2, 70, 384), empty(2, 70, dtype=I64)
    triton_segments.segment_sum(tokens, labels, 30, empty(2, 70), True)
    triton_segments.take_rows(half(2, 30, 384), labels, empty(2, 70), empty(2, 30))

    for dtype in (F16, BF16, F32):
        q, logs = empty(2, 6, 70, 64, dtype=dtype), empty(2, 6, 70)
        triton_proportional.attention(q, q, q, empty(2, 70))
        if dtype != F32:
            tensors = q, q, q, empty(2, 70), q.transpose(1, 2), logs, q
            triton_proportional.attention_backward(*tensors)

    weight, of_channel = empty(48, 24, 3, 3), empty(48)
    for bias, affine in ((of_channel, of_channel), (None, of_channel), (of_channel, None)):
        moments = of_channel, of_channel
        triton_fold.folded(weight, bias, *moments, affine, affine, EPS, F16)
    triton_pooling.max_pool(half(2, 64, 8, 12))

    engine.cluster_features(half(1, 4200, 64), 2100, 'average', programs=132)
    engine.cluster_features(half(1, 4096, 128), 2048, 'single', programs=132)
    nodes, labels = empty(1, engine.NODE_ROWS.value, 4200, dtype=I64), empty(1, 4200, dtype=I64)
    engine.label_kernel[(1,)](nodes, labels, 4200, 2100, IS_SINGLE=True, NODES=8192, num_warps=32)


def main() -> None:
    gpu, run = Gpu(), JITFunction.run

    def compiled(kernel: JITFunction, *args, warmup: bool, **kwargs) -> None:
        program = run(kernel, *args, warmup=True, **kwargs)
        sys.stdout.write(f'{gpu.architecture} {kernel.__name__} {program.metadata.shared}\n')

    JITFunction.run = compiled
    driver.set_active(gpu)
    for gpu.architecture in (80, 90):
        launch_all()


if __name__ == '__main__':
    main()
