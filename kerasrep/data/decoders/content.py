"""What a container really holds, in terms that its readers share."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

#: A file's bytes; a mapped one is read as far as it is looked at.
Bytes = bytes | mmap.mmap


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
