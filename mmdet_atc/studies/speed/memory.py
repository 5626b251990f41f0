"""Peak memory of a piece of code, on the device that it runs on."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import torch

_STATUS = Path('/proc/self/status')
_CLEAR = Path('/proc/self/clear_refs')

#: glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
#: Far below the tensors of merged tokens: of smaller blocks glibc keeps a fraction of a MiB.
_MAPPED_FROM = 2**14
#: The most that glibc's own threshold, which follows the blocks that are freed, grows to.
_LARGEST_OWN_THRESHOLD = 2**25


class PeakMemory:
    """Context manager: how far memory rises above where it stood.

    On a CUDA device this is what torch's allocator handed out; on the CPU the resident memory of
    this process, which the kernel's own high-water mark gives (Linux only). A first call of a
    library also pays for its own buffers: warm up before measuring.

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
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before: float | None = torch.cuda.memory_allocated(self.device) / 2**20
            return self
        _return_freed_memory()
        try:
            _CLEAR.write_text('5')  # sets the high-water mark to what is resident now
        except OSError:
            self._before = None
        else:
            self._before = _resident('VmRSS')
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


@contextlib.contextmanager
def large_blocks_mapped() -> Iterator[None]:
    """Inside, resident memory is memory in use: glibc gives each large block back when it is freed.

    Otherwise glibc keeps freed blocks for later ones, which may not fit into them. Returning them
    costs page faults, and glibc cannot be told to choose its threshold by itself again: afterwards
    that is where it would have grown to, but measure times before. Other C libraries go on as they
    are.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, 'mallopt'):  # musl, macOS
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
    try:
        with _holes_taken(libc):
            yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_OWN_THRESHOLD)


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd'),
            *('usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost'),
        )
    )


@contextlib.contextmanager
def _holes_taken(libc: ctypes.CDLL) -> Iterator[None]:
    """Inside, the heap has no room for a large block: holes come before the threshold.

    They are taken by blocks that are never written to, and so are not resident.
    """
    if not hasattr(libc, 'mallinfo2'):  # glibc older than 2.33
        yield
        return
    libc.mallinfo2.restype = _MallInfo
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    # No more than this many fit into what is free; the others are mapped.
    count = libc.mallinfo2().fordblks // _MAPPED_FROM
    blocks = [libc.malloc(_MAPPED_FROM) for _ in range(count)]
    try:
        yield
    finally:
        for block in blocks:
            libc.free(block)


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
    _return_freed_memory()
    return _resident('VmRSS')


def _return_freed_memory() -> None:
    """Give back what the C library holds for later: its reuse would not show."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc only
    if trim is not None:
        trim(0)


def _resident(field: str) -> float | None:
    """A field of ``/proc/self/status`` in MiB."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return None
