"""Peak memory of a piece of code, on the device that it runs on."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import torch

_STATUS = Path('/proc/self/status')
_CLEAR = Path('/proc/self/clear_refs')


class PeakMemory:
    """Context manager: how far memory rises above where it stood.

    On a CUDA device this is what torch's allocator handed out; on the CPU the resident memory of
    this process, which the kernel's own high-water mark gives (Linux only). There, blocks that the
    C library keeps for later count as in use (6 % of a backbone's peak, where it was compared). A
    first call of a library also pays for its own buffers: warm up before measuring.

    Args:
        device (torch.device): Device of the code.

    Attributes:
        mebibytes (float | None): The rise in MiB, after the block; None where the system does not
            tell.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mebibytes: float | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self._before = memory_in_use(self.device)
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        try:
            _CLEAR.write_text('5')  # sets the high-water mark to what is resident now
        except OSError:
            self._before = None
        return self

    def __exit__(self, *_) -> None:
        if self._before is None:
            return
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            self.mebibytes = torch.cuda.max_memory_allocated(self.device) / 2**20 - self._before
        else:
            peak = _resident('VmHWM')
            self.mebibytes = None if peak is None else peak - self._before


def memory_in_use(device: torch.device) -> float | None:
    """Memory that this process holds now.

    Args:
        device (torch.device): CUDA: what torch's allocator has handed out; else resident memory.

    Returns:
        float, optional: MiB; None where the system does not tell.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device) / 2**20
    # The C library's reuse of what it holds for later would not show: it gives that back.
    if (trim := getattr(ctypes.CDLL(None), 'malloc_trim', None)) is not None:  # glibc only
        trim(0)
    return _resident('VmRSS')


def _resident(field: str) -> float | None:
    """A field of ``/proc/self/status`` in MiB."""
    text = _STATUS.read_text() if _STATUS.exists() else ''
    found = re.search(rf'^{field}:\s*(\d+)', text, re.M)
    return int(found[1]) / 1024 if found else None
