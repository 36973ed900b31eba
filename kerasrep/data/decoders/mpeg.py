"""Frames of MPEG audio, counted one by one: estimates of length by size and bit rate are wrong for VBR."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from kerasrep.data.decoders.content import Bytes, Content, find

#: kbit/s by index 1 to 14: MPEG 1 layers I, II, III; then MPEG 2 and 2.5 layer I, and layers II and III.
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_HEADER = struct.Struct(">I")
_HEADER_BITS = 9  # below those that say length and kind
#: An estimate may be larger by this factor: decoding ends where the frames do.
_MOST_OVER = 1.01
_TAGS = (b"ID3", b"APETAGEX", b"TAG", b"LYRICSBEGIN")
#: The count of frames may be off by what decoders need to begin and to end.
_TOLERATED_FRAMES = 2

#: Sample rate in hertz and samples a channel of a frame.
Kind = tuple[int, int]


def _lengths() -> dict[int, tuple[int, Kind]]:
    """The upper bits of a frame's header -> its bytes and kind."""
    found = {}
    for version, rates_hz in _RATES_HZ.items():
        generation = 1 if version == 3 else 2
        for layer in (1, 2, 3):
            samples = 384 if layer == 1 else 576 if layer == 3 and generation == 2 else 1152
            for index, kbits in enumerate(_BIT_RATES[generation, layer], start=1):
                for rate_index, rate_hz in enumerate(rates_hz):
                    for padding in (0, 1):
                        slots = (samples // 8 // (4 if layer == 1 else 1)) * kbits * 1000 // rate_hz + padding
                        length = slots * (4 if layer == 1 else 1)
                        for crc in (0, 1):
                            bits = 0x7FF << 21 | version << 19 | (4 - layer) << 17 | crc << 16
                            bits |= index << 12 | rate_index << 10 | padding << 9
                            found[bits >> _HEADER_BITS] = (length, (rate_hz, samples))
    return found


_LENGTHS = _lengths()


def content_of(data: Bytes, claimed: int) -> Content:
    """What an MPEG file holds.

    Args:
        data: The whole file.
        claimed: Samples a channel that libsndfile would read.
    """
    kinds: Counter[Kind] = Counter()
    first, lost_bytes, frame_bytes = -1, 0, 0
    for start, length, kind in _frames(data):
        if kind is None:
            lost_bytes += length if kinds else 0  # rips begin within a frame
            continue
        first = start if first < 0 else first
        kinds[kind] += 1
        frame_bytes += length
    if not kinds:
        return Content()
    (rate_hz, samples), count = kinds.most_common(1)[0]
    others = [other_hz for other_hz, _ in kinds if other_hz != rate_hz]
    if others:
        return Content(
            fault=f"changes its rate from {rate_hz} to {others[0]} Hz within the file; split or convert it"
        )
    head = _Head(data, first)
    frames = max(0, count - head.is_there) * samples - head.trimmed
    lost = round(lost_bytes / frame_bytes * count * samples)
    promised = 0
    if head.promised_frames > (count - head.is_there) + _TOLERATED_FRAMES:
        promised = head.promised_frames * samples
    enough = claimed >= frames - _TOLERATED_FRAMES * samples and not lost  # libsndfile ends at a hole
    right = enough and claimed <= frames * _MOST_OVER
    return Content(frames=None if right else frames, libsndfile=enough, promised=promised, lost=lost)


def _frames(data: Bytes) -> Iterator[tuple[int, int, Kind | None]]:
    """First byte, length and kind of each frame; of what is none, the length and None."""
    place, end, unpack, lengths = 0, _end_of_sound(data), _HEADER.unpack_from, _LENGTHS
    kind: Kind | None = None
    while place + 4 <= end:
        header = lengths.get(unpack(data, place)[0] >> _HEADER_BITS)
        if header is not None and (header[1] == kind or _is_followed(data, place, *header)):
            length, kind = header
            if place + length > end:
                return
            yield place, length, kind
            place += length
        elif tag := tag_length(data, place):
            place += tag
        else:
            there = min(end, _next_frame(data, place + 1))
            if there - place > 0 and there < end:
                yield place, there - place, None
            place = there


def _end_of_sound(data: Bytes) -> int:
    """Where tags at the end begin that say their size behind themselves alone."""
    end = len(data)
    while True:
        ape, footer, size = data[max(0, end - 32) : end], data[max(0, end - 10) : end], 0
        if data[max(0, end - 128) : end].startswith(b"TAG"):
            size = 128
        elif ape.startswith(b"APETAGEX") and len(ape) == 32:
            size = int.from_bytes(ape[12:16], "little") + (32 if ape[23] & 0x80 else 0)
        elif footer.startswith(b"3DI") and max(footer) < 0x80:
            size = _synchsafe(footer[6:]) + 20
        if not 0 < size <= end:
            return end
        end -= size


def _is_followed(data: Bytes, place: int, length: int, kind: Kind) -> bool:
    """Whether a frame of the same kind, a tag or the end follows."""
    after = place + length
    if after + 4 > len(data):
        return after == len(data)
    found = _LENGTHS.get(_HEADER.unpack_from(data, after)[0] >> _HEADER_BITS)
    return (found is not None and found[1] == kind) or tag_length(data, after) > 0


def _next_frame(data: Bytes, place: int) -> int:
    """First byte of the next frame or tag, or the end."""
    end = len(data)
    tags = [there for tag in _TAGS[:2] if (there := find(data, tag, place)) >= 0]
    nearest = min(tags, default=end)
    while (place := find(data, b"\xff", place, nearest)) >= 0 and place + 4 <= end:
        found = _LENGTHS.get(_HEADER.unpack_from(data, place)[0] >> _HEADER_BITS)
        if found is not None and _is_followed(data, place, *found):
            return place
        place += 1
    return nearest


def tag_length(data: Bytes, place: int) -> int:
    """Bytes of a tag that begins here, or 0."""
    head = data[place : place + 16]
    if head.startswith(b"ID3") and len(head) >= 10 and max(head[6:10]) < 0x80:
        return 10 + _synchsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)
    if head.startswith(b"APETAGEX") and len(head) == 16:
        flags = data[place + 20 : place + 24]
        is_header = len(flags) == 4 and flags[3] & 0x20  # else it is the footer of what went before
        return int.from_bytes(head[12:16], "little") + 32 if is_header else 32
    if head.startswith(b"TAG"):
        return 128
    return len(data) - place if head.startswith(b"LYRICSBEGIN") else 0


def _synchsafe(digits: bytes) -> int:
    return digits[0] << 21 | digits[1] << 14 | digits[2] << 7 | digits[3]


class _Head:
    """What the first frame says of all, as Xing, LAME and Fraunhofer write it.

    Attributes:
        is_there: Whether the first frame holds no sound.
        promised_frames: As counted there, or 0.
        trimmed: Samples that decoders leave out at both ends.
    """

    def __init__(self, data: Bytes, first: int) -> None:
        self.promised_frames, self.trimmed = 0, 0
        head = data[first : first + 200]
        place = max(head.find(b"Xing", 0, 48), head.find(b"Info", 0, 48))
        self.is_there = place > 0 or head.find(b"VBRI", 0, 48) > 0
        if place > 0 and len(head) >= place + 144:
            flags = head[place + 7]
            if flags & 1:
                self.promised_frames = int.from_bytes(head[place + 8 : place + 12], "big")
            if flags & 0xF == 0xF and self.promised_frames:
                both = int.from_bytes(head[place + 141 : place + 144], "big")
                self.trimmed = (both >> 12) + (both & 0xFFF)
