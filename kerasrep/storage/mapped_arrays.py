"""Arrays of an uncompressed NPZ file that stay in the file: memory does not grow with them.

Targets of a million tracks take two gigabytes, of which a training step uses some kilobytes. The system
reads pages when they are looked at, and takes their memory back when it needs it.
"""

from __future__ import annotations

import mmap
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kerasrep.storage.run_directory import npz_faults, read_arrays

_CHUNK_BYTES = 1 << 23
_LOCAL_HEADER_BYTES = 30  # APPNOTE.TXT of the ZIP format, 4.3.7: name and extra field follow


def map_arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    """Arrays of an NPZ file, read-only; those of a compressed file are read into memory.

    Every byte is compared with the archive's checksums, as reading does; nothing in it is ever executed.

    Args:
        path: Not changed in place while its arrays are used; another file may take its name.

    Raises:
        DataError: Where the file is missing, damaged, is no NPZ file, or holds pickled objects.
    """
    with npz_faults(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            return read_arrays(path)
        return {member.filename.removesuffix(".npy"): _mapped(path, file, member) for member in members}


def _mapped(path: Path, file: BinaryIO, member: zipfile.ZipInfo) -> NDArray[Any]:
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    if header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{member.filename} has no header")
    names = sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    first = member.header_offset + _LOCAL_HEADER_BYTES + names
    _check(file, first, member)
    file.seek(first)
    version = npy.read_magic(file)  # type: ignore[no-untyped-call]
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    shape, fortran, dtype = read_header(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    offset, size = file.tell(), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if offset + size != first + member.file_size:
        raise ValueError(f"{member.filename} does not hold what its header says")
    order: Literal["C", "F"] = "F" if fortran else "C"
    if size == 0:
        return np.empty(shape, dtype, order)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape, order))


def _check(file: BinaryIO, first: int, member: zipfile.ZipInfo) -> None:
    """Compare a member's bytes with its checksum."""
    file.seek(first)
    left, found = member.file_size, 0
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise EOFError(f"{member.filename} ends too early")
        found, left = zlib.crc32(chunk, found), left - len(chunk)
    if found != member.CRC:
        raise zipfile.BadZipFile(f"bad CRC-32 for file {member.filename!r}")


def release(array: NDArray[Any]) -> None:
    """Let go of the pages of a mapped array; they are read again where they are looked at."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
