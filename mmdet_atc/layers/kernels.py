"""Whether Triton's kernels can be used."""

from mmdet_atc.native import can_run_triton

__all__ = ['can_run_triton']
