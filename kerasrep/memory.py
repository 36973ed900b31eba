"""The C library's allocator, told what a network on a CPU needs.

A training step allocates and frees the same tensors of tens of megabytes again and again. By default glibc
gives each back to the kernel at once, which clears every page anew at the next step. Kept, the memory is
used again.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 2**31 - 1
_MMAP_FROM_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next allocation, in this process.

    Nothing is done where the user chose otherwise (a variable `MALLOC_...` or `GLIBC_TUNABLES`), or where the
    C library is another one.

    Returns:
        Whether it is so now.
    """
    if not sys.platform.startswith("linux"):
        return False
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES) and library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    )
