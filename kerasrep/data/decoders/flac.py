"""Where a FLAC file's last frame says that it ends; the count in its header may be none, or false."""

from __future__ import annotations

import re

import numpy as np

from kerasrep.data.decoders.content import Bytes, Content, find

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FIRST_WINDOW_BYTES = 1 << 17
_PIECE_BYTES = 1 << 22
#: Block sizes by their code; 6 and 7 are written behind the number of the frame.
_BLOCK_SAMPLES = (
    {1: 192} | {n: 576 << (n - 2) for n in range(2, 6)} | {n: 256 << (n - 8) for n in range(8, 16)}
)
_RATES_HZ = dict(
    enumerate(
        (88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000), start=1
    )
)
_EXTRA_RATE_BYTES = {12: 1, 13: 2, 14: 2}


def content_of(data: Bytes, claimed: int | None) -> Content:
    """What a FLAC file holds.

    Args:
        data: The whole file.
        claimed: Samples a channel that libsndfile would read; None where it opens no such file.
    """
    start = find(data, b"fLaC", 0)
    if start < 0:
        return Content()
    if _occurs(data, b"fLaC\0\0\0\x22", start + 4):
        return Content(fault="holds several FLAC files one after another; split or convert it")
    block_samples = int.from_bytes(data[start + 8 : start + 10], "big")
    rate_hz = int.from_bytes(data[start + 18 : start + 21], "big") >> 4
    frames, frame_rates_hz = _end_of_last(data, start, block_samples)
    if frame_rates_hz - {rate_hz}:
        found = sorted(frame_rates_hz - {rate_hz})
        return Content(fault=f"header says {rate_hz} Hz, its frames {found[0]} Hz; copy or convert it again")
    if frames is None or (claimed is not None and claimed >= frames):
        return Content()
    return Content(frames=frames, libsndfile=False)


def _occurs(data: Bytes, what: bytes, start: int) -> bool:
    """Whether `what` comes later; unlike `bytes.find`, NumPy lets other threads work meanwhile."""
    first, values = np.frombuffer(what[:4], np.uint32)[0], np.frombuffer(data, np.uint8)
    for place in range(start, len(data), _PIECE_BYTES):
        piece = values[place : place + _PIECE_BYTES + 3]
        for shift in range(4):
            words = piece[shift : shift + (len(piece) - shift) // 4 * 4].view(np.uint32)
            if (words == first).any() and find(data, what, place, place + _PIECE_BYTES + len(what) - 1) >= 0:
                return True
    return False


def _end_of_last(data: Bytes, start: int, block_samples: int) -> tuple[int | None, set[int]]:
    """Samples a channel up to the end of the last frame, where two frames in a row agree; and rates there."""
    window = _FIRST_WINDOW_BYTES
    rates_hz: set[int] = set()
    while True:
        begin = max(start, len(data) - window)
        ends: dict[int, int] = {}  # where a frame ends that was seen, in samples -> where it begins
        last = None
        tail = data[begin:]
        for match in _SYNC.finditer(tail):
            frame = _frame(tail, match.start(), block_samples)
            if frame is not None:
                first, samples = frame
                ends[first + samples] = first
                if first == 0 or first in ends:
                    last = first + samples
                    rates_hz |= (
                        {_RATES_HZ[code]} if (code := tail[match.start() + 2] & 0xF) in _RATES_HZ else set()
                    )
        if last is not None or begin == start:
            return last, rates_hz
        window *= 4


def _frame(data: bytes, place: int, block_samples: int) -> tuple[int, int] | None:
    """First sample and samples a channel of the frame whose header is here, if there is one."""
    head = data[place : place + 18]
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 0xF == 15:
        return None
    number, length = _number(head[4:11])
    at = 4 + length
    code = head[2] >> 4
    samples = _BLOCK_SAMPLES.get(code, 0)
    if code in {6, 7}:
        samples = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    at += _EXTRA_RATE_BYTES.get(head[2] & 0xF, 0)
    if not length or at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * block_samples), samples


def _number(head: bytes) -> tuple[int, int]:
    """A number in the way of UTF-8, and its bytes; 0 bytes where there is none."""
    if not head or head[0] < 0x80:
        return (head[0], 1) if head else (0, 0)
    length = 8 - (head[0] ^ 0xFF).bit_length()
    if not 2 <= length <= 7 or len(head) < length or any(byte >> 6 != 2 for byte in head[1:length]):
        return 0, 0
    number = head[0] & (0x7F >> length)
    for byte in head[1:length]:
        number = number << 6 | byte & 0x3F
    return number, length


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
