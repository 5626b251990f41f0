"""Measuring side by side: interleaved times, peak memory."""

from .memory import PeakMemory
from .timing import interleaved_times, synchronize

__all__ = ['PeakMemory', 'interleaved_times', 'synchronize']
