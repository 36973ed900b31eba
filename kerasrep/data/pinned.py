"""Memory that a GPU fetches by itself.

TensorFlow copies a batch out of ordinary memory through a buffer of the driver, piece by piece, and the copy
waits for the steps before it. Pages that the CUDA runtime knows are fetched by the GPU while it computes:
on an H200 training from shards was 1.9 times as fast so.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOR_ALL_GPUS = 1  # cudaHostRegisterPortable


def pin(array: NDArray[np.uint8]) -> bool:
    """Let GPUs fetch an array by themselves, until it is freed.

    Args:
        array: Contiguous, in memory of its own.

    Returns:
        Whether they can; without, everything works, only slower. The limit of locked memory may forbid it.
    """
    cuda = _runtime()
    if cuda is None:
        return False
    if cuda.cudaHostRegister(array.ctypes.data, array.nbytes, _FOR_ALL_GPUS):
        cuda.cudaGetLastError()  # or TensorFlow would find the error, and take it for its own
        return False
    weakref.finalize(array, cuda.cudaHostUnregister, array.ctypes.data).atexit = False
    return True


def _runtime() -> Any:
    """The CUDA runtime that this process has loaded, if there is one; TensorFlow loads it late."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.is_file() else []
    path = next((line.split(maxsplit=5)[5] for line in lines if "/libcudart.so" in line), None)
    return None if path is None else _opened(path)


@cache
def _opened(path: str) -> Any:
    cuda = ctypes.CDLL(path)
    cuda.cudaHostRegister.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
    cuda.cudaHostUnregister.argtypes = (ctypes.c_void_p,)
    return cuda
