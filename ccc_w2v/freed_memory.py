"""What the C library does with freed memory: kept for the next step on a CPU, given back after a peak."""

from __future__ import annotations

import ctypes

import torch


def give_back_memory() -> None:
    """Give freed memory back to the kernel, with glibc, which keeps what lies between blocks that are in use."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def keep_freed_memory() -> None:
    """On a CPU, let glibc keep freed memory for the next tensor instead of giving it back to the kernel.

    glibc maps every block above 32 MB anew, and the kernel clears it page by page as it is touched: a fifth of the
    time of a training step of BASE. The process then keeps its peak memory between steps.
    """
    libc = ctypes.CDLL(None)
    if torch.cuda.is_available() or not hasattr(libc, "gnu_get_libc_version"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # glibc's malloc.h
    for parameter, value in ((mmap_max, 0), (trim_threshold, -1), (top_pad, 64 << 20)):
        libc.mallopt(parameter, value)
