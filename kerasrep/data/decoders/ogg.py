"""Pages of Ogg, each with a checksum, a number and a time: chains, holes and false times show."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from kerasrep.data.decoders.content import Bytes, Content, find

_PAGE = struct.Struct("<4sBBqIIIB")
_CHECKSUM = slice(22, 26)
_NO_TIME = -1
_BEGINS, _ENDS = 2, 4
_OPUS_RATE_HZ = 48_000
#: zlib's CRC-32 is Ogg's with the bits of each byte, and of the result, the other way round.
#: For more than these, zlib lets other threads run, and then waits for them longer than it works.
_KEPT_BYTES = 5 << 10
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Stream:
    """One logical stream.

    Attributes:
        opus: Whether it is Opus, whose packets say how long they are.
        skip: Samples that decoders leave out at the beginning (Opus).
        time: Of the last page, in samples.
        samples: Of all packets (Opus).
        number: Of the last page.
        lost: Samples a channel in pages that are lost.
        skips: Whether times of pages are other than their packets say (Opus).
        ended: Whether its last page came.
    """

    opus: bool
    skip: int = 0
    time: int = 0
    samples: int = 0
    number: int = 0
    lost: int = 0
    skips: bool = False
    ended: bool = False
    headers: int = field(default=2)  # packets that hold no sound

    @property
    def frames(self) -> int:
        if not self.opus:
            return self.time
        samples = min(self.samples, self.time) if self.ended and not self.skips else self.samples
        return max(0, samples - self.skip)


def content_of(data: Bytes) -> Content:
    """What an Ogg file holds.

    Args:
        data: The whole file.
    """
    streams: dict[int, _Stream] = {}
    chained, end = False, 0
    for place, serial, flags, time, number, body, sizes in _pages(data):
        end = place
        if flags & _BEGINS:
            chained = chained or any(stream.time > 0 for stream in streams.values())
            opus = body.startswith(b"OpusHead") and len(body) >= 12
            skip = int.from_bytes(body[10:12], "little") if opus else 0
            streams[serial] = _Stream(opus, skip, number=number)
        if (stream := streams.get(serial)) is not None:
            _take(stream, flags, time, number, body, sizes)
    if not streams:
        return Content()
    lost = sum(stream.lost for stream in streams.values())
    frames = sum(stream.frames for stream in streams.values())
    ended = all(stream.ended for stream in streams.values())
    if not ended and find(data, b"OggS", end) >= 0:
        return Content(fault="ends within a page, so it was cut; copy it again")
    notice = "" if ended else "has no last page; it may be cut"
    if len(streams) > 1 and not chained:  # with pictures or other tracks
        return Content(lost=lost, libsndfile=not lost, notice=notice)
    skips = any(stream.skips for stream in streams.values())
    whole = not (chained or lost or skips)
    return Content(frames=None if whole else frames, libsndfile=whole, lost=lost, notice=notice)


def _take(stream: _Stream, flags: int, time: int, number: int, body: bytes, sizes: bytes) -> None:
    """Count one page in."""
    missing = max(0, number - stream.number - 1)
    stream.number = number
    stream.ended = bool(flags & _ENDS)
    samples = 0
    if stream.opus:
        for first in _packets(body, sizes, continued=bool(flags & 1)):
            if stream.headers:
                stream.headers -= 1
            else:
                samples += _opus_samples(first)
        stream.samples += samples
    if time in {_NO_TIME, 0}:
        return
    step = time - stream.time
    if missing:
        stream.lost += max(0, step - samples if stream.opus else step * missing // (missing + 1))
    elif stream.opus and (step != samples) and not (stream.ended and step < samples):
        stream.skips = True
    stream.time = time


def _pages(data: Bytes) -> Iterator[tuple[int, int, int, int, int, bytes, bytes]]:
    """End, serial number, flags, time, number, body and sizes of each page whose checksum is right."""
    place, end = 0, len(data)
    while place >= 0 and place + _PAGE.size <= end:
        if data[place : place + 4] == b"OggS":
            _, _, flags, time, serial, number, checksum, n_sizes = _PAGE.unpack_from(data, place)
            start = place + _PAGE.size + n_sizes
            sizes = data[place + _PAGE.size : start]
            page = bytearray(data[place : start + sum(sizes)])
            if len(page) == _PAGE.size + n_sizes + sum(sizes):
                page[_CHECKSUM] = bytes(4)
                if _checksum(page) == checksum:
                    place = start + sum(sizes)
                    yield place, serial, flags, time, number, bytes(page[_PAGE.size + n_sizes :]), sizes
                    continue
        place = find(data, b"OggS", place + 1)


def _checksum(page: bytearray) -> int:
    reversed_bits, crc = memoryview(page.translate(_REVERSED)), 0xFFFFFFFF
    for start in range(0, len(page), _KEPT_BYTES):
        crc = zlib.crc32(reversed_bits[start : start + _KEPT_BYTES], crc)
    crc ^= 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED), "big")


def _packets(body: bytes, sizes: bytes, continued: bool) -> Iterator[bytes]:
    """The first two bytes of each packet that begins in a page."""
    place, start = 0, not continued
    for size in sizes:
        if start:
            yield body[place : place + 2]
        place += size
        start = size < 255


def _opus_samples(first: bytes) -> int:
    """Samples a channel of an Opus packet (RFC 6716, section 3.1), at 48 kHz."""
    if not first:
        return 0
    config = first[0] >> 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    code = first[0] & 3
    count = 1 if code == 0 else 2 if code < 3 else (first[1] & 0x3F if len(first) > 1 else 0)
    return frame * count
