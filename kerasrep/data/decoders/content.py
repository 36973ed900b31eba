"""What a container really holds, in terms that its readers share."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

#: A file's bytes; a mapped one is read as far as it is looked at.
Bytes = bytes | mmap.mmap
_SEARCHED_BYTES = 16 << 20


@dataclass(frozen=True)
class Content:
    """What lies in a file.

    Attributes:
        frames: Samples a channel that are there; None where libsndfile's count is as good.
        libsndfile: Whether libsndfile reads them all.
        start_byte: Where samples of fixed size begin that libsndfile must read without the file's header;
            None elsewhere.
        big_endian: Byte order of these samples.
        promised: Samples a channel that a trustworthy header promises, more than there are; else 0.
        lost: Samples a channel that damage took.
        fault: Why the file cannot be used, or "".
        notice: What people should know, or "".
    """

    frames: int | None = None
    libsndfile: bool = True
    start_byte: int | None = None
    big_endian: bool = False
    promised: int = 0
    lost: int = 0
    fault: str = ""
    notice: str = ""


def find(data: Bytes, what: bytes, start: int, end: int | None = None) -> int:
    """As `bytes.find`; between pieces of a large file other threads go on."""
    if isinstance(data, bytes):
        return data.find(what, start, end)
    end = len(data) if end is None else end
    for place in range(start, end, _SEARCHED_BYTES):
        found = data[place : min(end, place + _SEARCHED_BYTES + len(what) - 1)].find(what)
        if found >= 0:
            return place + found
    return -1
