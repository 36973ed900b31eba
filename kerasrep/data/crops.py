"""Crops out of shards: one call a batch that leaves Python's lock free, into memory that is used again.

Read one by one from Python, crops of several threads wait for the interpreter's lock twice each, and a fresh
batch of 28 MB has every page cleared by the kernel: more threads then read less. Compiled, a batch is one
call, and threads read side by side.

TensorFlow copies a batch out of ordinary memory through a buffer of the driver, piece by piece, and the copy
waits for the steps before it. Pages that the CUDA runtime knows are fetched by the GPU while it computes: on
an H200 training from shards was 1.9 times as fast so.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.shards import FRAME_BYTES, ShardIndex
from kerasrep.errors import DataError

ALIGNMENT_BYTES = 64  # of TensorFlow's tensors: it copies arrays that lie otherwise
MAX_OPEN_FILES = 256
MIN_PINNED_BYTES = 2**20  # smaller ones share their pages with other memory

_Stamp = tuple[int, int, int]  # device, inode, time of change in ns
_FOR_ALL_GPUS = 1  # cudaHostRegisterPortable


def read_crops(
    index: ShardIndex,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    samples: int,
    buffers: Buffers | None = None,
    files: OpenFiles | None = None,
) -> NDArray[np.int16]:
    """Read segments from the shards.

    Args:
        index: Where the tracks lie.
        rows: int64 [segments], rows of the index.
        starts: int64 [segments], first sample of each.
        samples: Length of a segment.
        buffers: Where the memory comes from; fresh memory by default.
        files: Which shards are meant; by default those that are there now.

    Returns:
        int16 [segments, samples, 2].

    Raises:
        DataError: Where a shard cannot be read, ends too early, or is another than `files` knows.
    """
    crop_bytes = samples * FRAME_BYTES
    buffers = Buffers() if buffers is None else buffers
    memory = buffers.take(len(rows) * crop_bytes)
    shards = index.shard[rows].tolist()
    offsets = index.offset_bytes[rows].astype(np.int64) + starts * FRAME_BYTES
    files = OpenFiles() if files is None else files
    opened = {shard: files.opened(index, shard) for shard in set(shards)}  # held while reading
    numbers = np.asarray([opened[shard].number for shard in shards], np.int64)
    done = _reader()(numbers, offsets, memory.reshape(len(rows), crop_bytes))
    if done < len(rows):
        raise _fault(index, shards[done], opened[shards[done]].number, int(offsets[done]), crop_bytes)
    return memory.view("<i2").reshape(len(rows), samples, constants.N_CHANNELS)


class Buffers:
    """Memory of batches, taken again once nobody refers to it any more.

    As many are kept as were ever in use at once: what the pipeline holds and the device has not yet taken.
    """

    def __init__(self, pinned: bool = False) -> None:
        """Begin with none; `pinned` where GPUs fetch what it holds."""
        self._arrays: list[NDArray[np.uint8]] = []
        self._pinned = pinned
        self._lock = threading.Lock()

    def take(self, size: int) -> NDArray[np.uint8]:
        """Memory of `size` bytes, aligned for TensorFlow; what it holds is arbitrary."""
        with self._lock:
            for array in self._arrays:
                # This list, the loop's name and the argument: a view in use would be a fourth reference.
                # Python 3.14 borrows the argument's reference and counts one less: 3 would be a view in use.
                if len(array) >= size + ALIGNMENT_BYTES and sys.getrefcount(array) == 3:
                    break
            else:
                array = np.empty(size + ALIGNMENT_BYTES, np.uint8)
                if self._pinned and size >= MIN_PINNED_BYTES:
                    pin(array)
                self._arrays.append(array)
            first = -array.ctypes.data % ALIGNMENT_BYTES
            return array[first : first + size]

    def __len__(self) -> int:
        return len(self._arrays)


class OpenFiles:
    """The shards of one dataset, each known by what it was when it was first read.

    Open files are kept for the whole process. By their path alone, one that was deleted and written again
    would go on giving what it held; asking the system at every crop would take a third of the reading time.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._stamps: dict[str, _Stamp] = {}

    def opened(self, index: ShardIndex, shard: int) -> _File:
        """An open shard.

        Raises:
            DataError: Where it cannot be opened, or another file has taken its place since it was first read.
        """
        path = f"{index.root}/{index.shard_files[shard]}"
        try:
            stamp = self._stamps.get(path)
            if stamp is None:
                stamp = self._stamps[path] = _stamp(Path(path).stat())
            return _open(path, stamp)
        except _ReplacedError as error:
            raise DataError(f"{path}: was replaced while it was read; start again") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); prepare again") from error


class _ReplacedError(Exception):
    """Another file has the name by now."""


class _File:
    """An open file that is closed when the cache drops it."""

    def __init__(self, path: str, stamp: _Stamp) -> None:
        self.number = -1  # what `__del__` finds where opening fails
        self.number = os.open(path, os.O_RDONLY)
        if _stamp(os.fstat(self.number)) != stamp:
            raise _ReplacedError

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=MAX_OPEN_FILES)
def _open(path: str, stamp: _Stamp) -> _File:
    return _File(path, stamp)


def _fault(index: ShardIndex, shard: int, file: int, offset: int, count: int) -> DataError:
    """Why a crop could not be read whole."""
    path = f"{index.root}/{index.shard_files[shard]}"
    try:
        os.pread(file, count, offset)
    except OSError as error:
        return DataError(f"{path}: cannot be read ({error.strerror}); prepare again")
    return DataError(f"{path}: ends before byte {offset + count}; delete {index.root} and prepare again")


@cache
def _reader() -> Any:
    """`(files int64 [n], offsets int64 [n], memory uint8 [n, size])` -> crops that were read whole."""
    import numba

    kinds = numba.types.int64(numba.types.int32, numba.types.uintp, numba.types.uintp, numba.types.int64)
    pread: Any = numba.types.ExternalFunction("pread", kinds)

    def read(files: Any, offsets: Any, memory: Any) -> int:
        size = memory.shape[1]
        for crop in range(len(files)):
            done = 0
            while done < size:  # a read may stop early where the file system pleases
                at = memory.ctypes.data + crop * size + done
                count = pread(files[crop], at, size - done, offsets[crop] + done)
                if count <= 0:
                    return crop
                done += count
        return len(files)

    signature = numba.types.int64(numba.int64[::1], numba.int64[::1], numba.uint8[:, ::1])
    return numba.njit(signature, nogil=True)(read)


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
